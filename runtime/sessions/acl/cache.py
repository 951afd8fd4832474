"""The KV cache on the device: where each row lies, and the copies that write it."""

from runtime.bundle import tensor_names as names
from runtime.bundle.manifest import Device, Manifest
from runtime.sessions.acl.device import ALIGNMENT, AclDevice, charged
from runtime.sessions.acl.model import AclModel
from runtime.sessions.base import Chunk

__all__ = ["AclCache", "cache_size"]

FLOAT16 = 2


def cache_size(manifest: Manifest, spec: Device) -> int:
    """Bytes of keys and values of all layers and slots."""
    model = manifest.model
    row = model.num_key_value_heads * model.head_dim * FLOAT16
    tensor = charged(manifest.num_slots * _slot_rows(manifest, spec) * row)
    return 2 * model.num_hidden_layers * tensor


def _slot_rows(manifest: Manifest, spec: Device) -> int:
    """Rows that a slot has memory for; graphs that write it themselves ask for room for padding."""
    axis = 1 if spec.cache_layout == "NHD" else 2
    inputs = (tensor for graph in manifest.graphs for tensor in graph.inputs)
    return max(tensor.shape[axis] for tensor in inputs if tensor.name == names.past_key(0))


class AclCache:
    """Keys and values of every layer, (slots, rows, heads, D) or (slots, heads, rows, D).

    Rows that were never written are zero, so that what the mask hides is a number.
    """

    def __init__(self, manifest: Manifest, spec: Device, device: AclDevice) -> None:
        model = manifest.model
        self._device, self._rows = device, _slot_rows(manifest, spec)
        # A slot is so many pieces, each with its rows one after the other.
        self._pieces = 1 if spec.cache_layout == "NHD" else model.num_key_value_heads
        heads = model.num_key_value_heads // self._pieces
        self._row_size = heads * model.head_dim * FLOAT16
        self._slot_size = self._pieces * self._rows * self._row_size
        # past_key.{i} -> key.{i}, and so for the values
        tensors = {
            past(i): new(i)
            for i in range(model.num_hidden_layers)
            for past, new in (
                (names.past_key, names.new_key),
                (names.past_value, names.new_value),
            )
        }
        # Outputs that the session brings to the cache: none where graphs write it by themselves.
        self._new_rows = tensors if spec.cache_write == "session" else {}
        size = self._slot_size * manifest.num_slots
        self._tensors = {past: device.allocate(size) for past in tensors}
        for address in self._tensors.values():
            device.clear(address, size)
        self._slots = [
            {past: start + slot * self._slot_size for past, start in self._tensors.items()}
            for slot in range(manifest.num_slots)
        ]

    def addresses(self, slot: int) -> dict[str, int]:
        """Where each cached tensor of a slot, and of those behind it, begins."""
        return self._slots[slot]

    def rows_in_place(self, chunk: Chunk, given: int) -> dict[str, int]:
        """Where a graph of one sequence may write its new rows itself: output -> address.

        A graph writes `given` rows, those of padding too, which nobody reads: they lie behind the
        chunk, so the mask hides them until others take their place. Empty where its rows would not
        be one piece of the slot, or where a row begins at an address that no graph writes to.
        """
        fits = chunk.start + given <= self._rows
        if self._pieces > 1 or self._row_size % ALIGNMENT or not fits:
            return {}
        offset = chunk.start * self._row_size
        slot = self._slots[chunk.slot]
        return {new: slot[past] + offset for past, new in self._new_rows.items()}

    def write_rows(self, chunk: Chunk, batch_row: int, given: int, model: AclModel) -> None:
        """Queues the copies of a chunk's new rows, of those `given`, from outputs into its slot."""
        num_rows, slot = len(chunk.token_ids), self._slots[chunk.slot]
        for past, new in self._new_rows.items():
            start, source = slot[past], model.outputs[new].address
            for piece in range(self._pieces):
                row = piece * self._rows + chunk.start
                given_row = (batch_row * self._pieces + piece) * given
                self._device.copy(
                    start + row * self._row_size,
                    source + given_row * self._row_size,
                    num_rows * self._row_size,
                )

    def copy_rows(self, source: int, target: int, num_rows: int) -> None:
        """Queues the copies of the first rows of one slot to another."""
        for start in self._tensors.values():
            for piece in range(self._pieces):
                offset = start + piece * self._rows * self._row_size
                self._device.copy(
                    offset + target * self._slot_size,
                    offset + source * self._slot_size,
                    num_rows * self._row_size,
                )
