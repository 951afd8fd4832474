"""THE CONTRACT between export, compile and run: the types of a bundle's manifest.json.

Nothing here touches a file. Every type is frozen and refuses unknown keys and wrong types.
"""

from typing import Annotated, Final, Literal

from pydantic import Field, JsonValue

from runtime.bundle.rope import RopeScaling
from runtime.bundle.tensor_names import past_key, past_value
from runtime.record import Record

__all__ = [
    "FORMAT_VERSION",
    "Backend",
    "CacheLayout",
    "CacheWrite",
    "DType",
    "Device",
    "FileEntry",
    "FloatType",
    "Graph",
    "GraphSpec",
    "Manifest",
    "ModelConfig",
    "Phase",
    "Provenance",
    "Rows",
    "TemplateKind",
    "TensorSpec",
    "TokenizerKind",
]

FORMAT_VERSION: Final = 8

Phase = Literal["prefill", "decode", "score"]
Stage = Literal["exported", "compiled"]
Backend = Literal["portable", "onnxruntime", "acl", "torch", "torch-cuda"]  # what runs the graphs
TokenizerKind = Literal["sentencepiece", "tokenizers"]  # tokenizer.model or tokenizer.json
# How prompts are written: as Alpaca-2's, by chat_template.jinja, or not at all, of a base model.
TemplateKind = Literal["alpaca2", "jinja", "none"]
CacheLayout = Literal["HND", "NHD"]  # past_key.{i} is (B, heads, rows, D) or (B, rows, heads, D)
# Who writes new rows into the cache: the session, from outputs, or the graph, into its inputs.
CacheWrite = Literal["session", "graph"]
FloatType = Literal["float32", "float16", "bfloat16"]  # that a program computes in
DType = FloatType | Literal["int64", "int32", "int8", "uint8"]

# Numbers have an upper end far beyond any model or device, so that none of another's file asks for
# work without end. Infinity and NaN are no numbers.
Size = Annotated[int, Field(ge=1, le=10_000_000)]  # of one dimension of the model
Count = Annotated[int, Field(ge=1, le=10_000)]
Rows = Annotated[int, Field(ge=1, le=100_000_000)]  # positions
CachedRows = Annotated[int, Field(ge=0, le=100_000_000)]
Dimension = Annotated[int, Field(ge=1, le=10**12)]  # of a tensor
Bytes = Annotated[int, Field(ge=0, le=10**15)]
Ratio = Annotated[float, Field(gt=0, le=1e12, allow_inf_nan=False)]


class ModelConfig(Record):
    """A Llama-family decoder; the field names are the keys of Hugging Face's config.json."""

    vocab_size: Size
    hidden_size: Size
    intermediate_size: Size
    num_hidden_layers: Annotated[int, Field(ge=1, le=1000)]
    num_attention_heads: Count
    num_key_value_heads: Count
    head_dim: Count
    max_position_embeddings: Rows
    rms_norm_eps: Annotated[float, Field(gt=0, le=1)]
    rope_theta: Ratio
    rope_scaling: RopeScaling | None = None
    tie_word_embeddings: bool = False
    attention_bias: bool = False  # of query, key and value
    qk_norm: bool = False  # of each head of queries and keys, before the rotation
    sliding_window: Rows | None = None  # rows that a row sees


class TensorSpec(Record):
    """One input or output of a graph; every dimension is static."""

    name: str
    dtype: DType
    shape: tuple[Dimension, ...]


class GraphSpec(Record):
    """One member of the graph family: B sequences, S new rows each, C rows already cached."""

    phase: Phase
    batch_size: Count
    seq_len: Rows
    cache_len: CachedRows

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

    def name_beside(self, longest: int) -> str:
        """Among graphs that read up to so many cached rows, for example decode_b1_c512."""
        return self.name if self.cache_len in (0, longest) else f"{self.name}_c{self.cache_len}"


class Graph(Record):
    """A graph of the bundle: what it computes, where it lies, what goes in and out."""

    spec: GraphSpec
    path: str  # several graphs may lie in one file
    cost: Ratio  # of a call with all its rows, in calls of the decode graph of one sequence
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    weights: tuple[str, ...] = ()  # files that it takes, where its own does not name them
    # The same with fewer cached rows, the first ones; for calls that start early enough.
    shorter: tuple["Graph", ...] = ()


class Device(Record):
    """The chip that a bundle was compiled for, and what its memory is asked to hold."""

    soc_name: str  # as acl.get_soc_name says it
    memory: Literal["ddr", "hbm"]
    cann: str  # version that compiled the graphs; the box needs the same or a newer one
    cache_layout: CacheLayout
    cache_write: CacheWrite
    weight_bytes: Bytes  # of all weight files, each once
    shared_bytes: Bytes  # of those that every graph takes
    needed_bytes: Bytes  # weights and the rest, as planned
    available_bytes: Bytes | None  # of the chip, where the profile knows it
    verdict: str


class FileEntry(Record):
    """What the reader checks of each file."""

    size: Bytes
    sha256: str


class Provenance(Record):
    """Where the bundle comes from: enough to make it again."""

    source_files: dict[str, str]  # file name -> sha256
    tool_versions: dict[str, str]
    options: dict[str, JsonValue]


class Manifest(Record):
    """All that the runtime knows about a bundle."""

    format_version: Literal[8] = FORMAT_VERSION
    stage: Stage
    backend: Backend
    target: str  # "portable" for an exported bundle, else what --target chose: cpu or a chip
    weights: str  # fp16 for an exported bundle, else what --weights chose
    model: ModelConfig
    graphs: tuple[Graph, ...]
    # Version of runtime/kernels that the graphs call; None where others compute.
    kernels: Annotated[int, Field(ge=1)] | None = None
    tokenizer: TokenizerKind = "sentencepiece"
    template: TemplateKind = "alpaca2"
    num_slots: Count  # sequences that can be cached side by side
    files: dict[str, FileEntry]  # path relative to the bundle, POSIX separators
    provenance: Provenance
    profile: dict[str, JsonValue]  # the resolved profile, for the record
    device: Device | None = None  # where the bundle runs on one kind of chip only

    @property
    def every_graph(self) -> tuple[Graph, ...]:
        """All graphs, each before its shorter ones."""
        return tuple(each for graph in self.graphs for each in (graph, *graph.shorter))

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
    def max_batch_size(self) -> int:
        """Sequences that the largest graph runs at once."""
        return max(graph.spec.batch_size for graph in self.graphs)

    @property
    def max_seq_len(self) -> int:
        """Rows that the largest graph writes at once."""
        return max(graph.spec.seq_len for graph in self.graphs)
