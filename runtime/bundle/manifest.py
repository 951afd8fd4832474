"""THE CONTRACT between export, compile and run: the types of a bundle's manifest.json.

Nothing here touches a file. Every type is frozen and refuses unknown keys and wrong types.
"""

from typing import Final, Literal

from pydantic import JsonValue, NonNegativeInt, PositiveFloat, PositiveInt

from runtime.bundle.tensor_names import past_key, past_value
from runtime.record import Record

__all__ = [
    "FORMAT_VERSION",
    "Backend",
    "CacheLayout",
    "Device",
    "FileEntry",
    "Graph",
    "GraphSpec",
    "Manifest",
    "ModelConfig",
    "Phase",
    "Provenance",
    "TensorSpec",
]

FORMAT_VERSION: Final = 4

Phase = Literal["prefill", "decode", "score"]
Stage = Literal["exported", "compiled"]
Backend = Literal["portable", "onnxruntime", "acl", "torch"]  # what runs the graphs
CacheLayout = Literal["HND", "NHD"]  # past_key.{i} is (B, heads, rows, D) or (B, rows, heads, D)
DType = Literal["float32", "float16", "int64", "int32", "int8", "uint8"]


class ModelConfig(Record):
    """A Llama-family decoder; the field names are the keys of Hugging Face's config.json."""

    vocab_size: PositiveInt
    hidden_size: PositiveInt
    intermediate_size: PositiveInt
    num_hidden_layers: PositiveInt
    num_attention_heads: PositiveInt
    num_key_value_heads: PositiveInt
    head_dim: PositiveInt
    max_position_embeddings: PositiveInt
    rms_norm_eps: PositiveFloat
    rope_theta: PositiveFloat
    rope_scaling_factor: PositiveFloat = 1.0  # linear: positions are divided by it
    tie_word_embeddings: bool = False


class TensorSpec(Record):
    """One input or output of a graph; every dimension is static."""

    name: str
    dtype: DType
    shape: tuple[PositiveInt, ...]


class GraphSpec(Record):
    """One member of the graph family: B sequences, S new rows each, C rows already cached."""

    phase: Phase
    batch_size: PositiveInt
    seq_len: PositiveInt
    cache_len: NonNegativeInt

    @property
    def name(self) -> str:
        """File stem, for example prefill_s128, decode_b1 or score_s64_c0."""
        parts: list[str] = [self.phase]
        if self.batch_size > 1 or self.phase == "decode":
            parts.append(f"b{self.batch_size}")
        if self.seq_len > 1:
            parts.append(f"s{self.seq_len}")
        if self.cache_len == 0:
            parts.append("c0")
        return "_".join(parts)


class Graph(Record):
    """A graph of the bundle: what it computes, where it lies, what goes in and out."""

    spec: GraphSpec
    path: str  # several graphs may lie in one file
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    weights: tuple[str, ...] = ()  # files that it takes, where its own does not name them


class Device(Record):
    """The chip that a bundle was compiled for, and what its memory is asked to hold."""

    soc_name: str  # as acl.get_soc_name says it
    memory: Literal["ddr", "hbm"]
    cann: str  # version that compiled the graphs; the box needs the same or a newer one
    cache_layout: CacheLayout
    weight_bytes: NonNegativeInt  # of all weight files, each once
    shared_bytes: NonNegativeInt  # of those that every graph takes
    needed_bytes: NonNegativeInt  # weights and the rest, as planned
    available_bytes: NonNegativeInt | None  # of the chip, where the profile knows it
    verdict: str


class FileEntry(Record):
    """What the reader checks of each file."""

    size: NonNegativeInt
    sha256: str


class Provenance(Record):
    """Where the bundle comes from: enough to make it again."""

    source_files: dict[str, str]  # file name -> sha256
    tool_versions: dict[str, str]
    options: dict[str, JsonValue]


class Manifest(Record):
    """All that the runtime knows about a bundle."""

    format_version: Literal[4] = FORMAT_VERSION
    stage: Stage
    backend: Backend
    target: str  # "portable" for an exported bundle, else what --target chose: cpu or a chip
    weights: str  # fp16 for an exported bundle, else what --weights chose
    model: ModelConfig
    graphs: tuple[Graph, ...]
    files: dict[str, FileEntry]  # path relative to the bundle, POSIX separators
    provenance: Provenance
    profile: dict[str, JsonValue]  # the resolved profile, for the record
    device: Device | None = None  # where the bundle runs on one kind of chip only

    @property
    def cache_len(self) -> int:
        """Rows of one cache slot: the longest sequence that fits."""
        return max(graph.spec.cache_len for graph in self.graphs)

    @property
    def cache_dtype(self) -> DType:
        """Type of the numbers in the KV cache."""
        names = (past_key(0), past_value(0))
        inputs = (tensor for graph in self.graphs for tensor in graph.inputs)
        return next(tensor.dtype for tensor in inputs if tensor.name in names)

    @property
    def num_slots(self) -> int:
        """Sequences that can be cached side by side."""
        return max(graph.spec.batch_size for graph in self.graphs)

    @property
    def max_seq_len(self) -> int:
        """Rows that the largest graph writes at once."""
        return max(graph.spec.seq_len for graph in self.graphs)
