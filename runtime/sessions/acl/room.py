"""Whether a bundle fits the device, asked before anything is put on it."""

from collections.abc import Sequence

from runtime.bundle.manifest import Device, Graph
from runtime.bundle.reader import Bundle
from runtime.bundle.tensor_names import past_key, past_value
from runtime.errors import SessionError
from runtime.sessions.acl.cache import cache_size
from runtime.sessions.acl.device import AclDevice, charged
from runtime.sessions.acl.model import num_bytes
from runtime.sessions.acl.weights import weight_bytes

__all__ = ["require_room"]

CACHED = past_key(0)[:-1], past_value(0)[:-1]  # what the names of cached tensors begin with


def require_room(
    bundle: Bundle,
    spec: Device,
    graphs: Sequence[Graph],
    shared: bool,
    workspace: int,
    device: AclDevice,
) -> None:
    """Refuses a bundle that is larger than the free memory of the device.

    Args:
        bundle: the bundle.
        spec: the chip that it is for.
        graphs: the largest graph of each model.
        shared: whether models can take weights that lie on the device already.
        workspace: bytes that models run in.
        device: the device.

    Raises:
        SessionError: says the parts and how to make it fit.
    """
    parts = {
        "weights": weight_bytes(bundle, graphs, shared),
        f"KV cache (slots {bundle.manifest.num_slots})": cache_size(bundle.manifest, spec),
        "workspace": charged(workspace),
        "inputs and outputs": _buffers(bundle.manifest.every_graph),
    }
    need, free = sum(parts.values()), device.free_bytes()
    if need <= free:
        return
    copies = "" if shared else ", one copy per graph"
    said = ", ".join(f"{name} {size / 1e9:.2f}" for name, size in parts.items())
    raise SessionError(
        f"the bundle does not fit the memory of the device ({device.soc_name})",
        got=f"{need / 1e9:.2f} GB ({said}{copies})",
        allowed=f"{free / 1e9:.2f} GB that are free",
        next_step="compile with --weights int8, or export with a profile of fewer slots or a "
        "shorter cache_len"
        if shared
        else "install CANN 8.5 or newer on the box, whose loader shares weights between graphs, "
        "or compile with the CANN of the box, which then makes one model in gears",
        code="does_not_fit",
    )


def _buffers(graphs: Sequence[Graph]) -> int:
    """Bytes of inputs and outputs but for the cache; graphs share them, the largest of a name."""
    sizes = dict[str, int]()
    for graph in graphs:
        for tensor in (*graph.inputs, *graph.outputs):
            if not tensor.name.startswith(CACHED):
                sizes[tensor.name] = max(num_bytes(tensor), sizes.get(tensor.name, 0))
    return sum(map(charged, sizes.values()))
