"""Names, types and shapes of what goes into and comes out of every graph; made only here."""

from collections.abc import Sequence

from export.parameters import parameter_shape, parameters
from runtime.bundle import tensor_names as names
from runtime.bundle.cpu_costs import cost_on_cpu
from runtime.bundle.manifest import FloatType, Graph, GraphSpec, ModelConfig, TensorSpec
from runtime.bundle.reader import GRAPHS_DIR, WEIGHTS_DIR

__all__ = [
    "FREQUENCIES",
    "chip_graph",
    "chooses_rows",
    "graph_inputs",
    "graph_outputs",
    "portable_graph",
    "program_graph",
    "program_rows",
    "weight_inputs",
]

FREQUENCIES = "rotary_emb.inverse_frequencies"


def portable_graph(config: ModelConfig, spec: GraphSpec) -> Graph:
    """A graph as export describes it."""
    return Graph(
        spec=spec,
        path=f"{GRAPHS_DIR}/{spec.name}.onnx",
        cost=cost_on_cpu(spec),  # where it runs as it is
        inputs=graph_inputs(config, spec),
        outputs=graph_outputs(config, spec),
    )


def graph_inputs(config: ModelConfig, spec: GraphSpec) -> tuple[TensorSpec, ...]:
    """Inputs of a portable graph, in order.

    input_ids       int64   (B, S)
    position_ids    int64   (B, S)           absolute positions
    attention_mask  float32 (B, 1, S, C + S) added to the scores
    logit_rows      int64   (B,)             rows of (B * S) whose logits are wanted; S > 1 only,
                                             and not in score graphs, which give all rows
    past_key.{i}    float16 (B, G, C, D)     absent when C = 0
    past_value.{i}  float16 (B, G, C, D)     absent when C = 0
    """
    b, s, c = spec.batch_size, spec.seq_len, spec.cache_len
    inputs = [
        TensorSpec(name=names.INPUT_IDS, dtype="int64", shape=(b, s)),
        TensorSpec(name=names.POSITION_IDS, dtype="int64", shape=(b, s)),
        TensorSpec(name=names.ATTENTION_MASK, dtype="float32", shape=(b, 1, s, c + s)),
    ]
    if chooses_rows(spec):
        inputs.append(TensorSpec(name=names.LOGIT_ROWS, dtype="int64", shape=(b,)))
    if c:
        inputs += _cache_tensors(config, spec, c, names.past_key, names.past_value)
    return tuple(inputs)


def graph_outputs(config: ModelConfig, spec: GraphSpec) -> tuple[TensorSpec, ...]:
    """Outputs of a portable graph, in order.

    logits    float32 (B, V), or (B, S, V) in a score graph
    key.{i}   float16 (B, G, S, D)  the NEW rows
    value.{i} float16 (B, G, S, D)  the NEW rows
    """
    b, s, v = spec.batch_size, spec.seq_len, config.vocab_size
    shape = (b, s, v) if spec.phase == "score" else (b, v)
    logits = TensorSpec(name=names.LOGITS, dtype="float32", shape=shape)
    return (logits, *_cache_tensors(config, spec, s, names.new_key, names.new_value))


def program_graph(
    config: ModelConfig,
    spec: GraphSpec,
    num_rows: int,
    dtype: FloatType,
    path: str,
    weights: Sequence[TensorSpec] | None = None,
) -> Graph:
    """A torch program, which writes new rows into the cache that it is given.

    in   input_ids       int64 (B, S)
         start           int64 (B,)          rows that each sequence has already
         logit_rows      int64 (B,)          as of a portable graph
         past_key.{i}    dtype (B, T, G, D)  written from row start on
         past_value.{i}  dtype (B, T, G, D)  the same
         {weight}                            every weight, from its file
         rotary_emb.inverse_frequencies      float32 (D / 2,), from a file
    out  logits          float32 (B, V), or (B, S, V) in a score graph

    Args:
        config: the model.
        spec: a member of the family, with a cache.
        num_rows: T, of program_rows.
        dtype: that it computes in.
        path: of the program, relative to the bundle.
        weights: that it takes before the frequencies; None: every parameter as it is.
    """
    as_is = weight_inputs(config, dtype)
    weights = as_is if weights is None else (*weights, as_is[-1])
    return Graph(
        spec=spec,
        path=path,
        cost=cost_on_cpu(spec),
        inputs=(*_written_inputs(config, spec, num_rows, dtype), *weights),
        outputs=graph_outputs(config, spec)[:1],
        weights=tuple(f"{GRAPHS_DIR}/{WEIGHTS_DIR}/{weight.name}" for weight in weights),
    )


def chip_graph(
    config: ModelConfig, spec: GraphSpec, num_rows: int, path: str, cost: float
) -> Graph:
    """A graph of a chip that writes new rows itself, with the weights that it names itself.

    Inputs and outputs are those of a program in float16 without its weights, and one more where
    each sequence has one new row; a graph of more rows attends to start + S of them.

    in   lengths         int64 (B,)          rows of each sequence after the call, behind start
    """
    given = list(_written_inputs(config, spec, num_rows, "float16"))
    if spec.seq_len == 1:
        lengths = TensorSpec(name=names.LENGTHS, dtype="int64", shape=(spec.batch_size,))
        given.insert(2, lengths)
    outputs = graph_outputs(config, spec)[:1]
    return Graph(spec=spec, path=path, cost=cost, inputs=tuple(given), outputs=outputs)


def weight_inputs(config: ModelConfig, dtype: FloatType) -> tuple[TensorSpec, ...]:
    """The parameters of a program, and the frequencies of its positions."""
    shapes = {name: parameter_shape(config, name) for name in parameters(config)}
    return (
        *(TensorSpec(name=name, dtype=dtype, shape=shape) for name, shape in shapes.items()),
        TensorSpec(name=FREQUENCIES, dtype="float32", shape=(config.head_dim // 2,)),
    )


def _written_inputs(
    config: ModelConfig, spec: GraphSpec, num_rows: int, dtype: FloatType
) -> tuple[TensorSpec, ...]:
    """Tokens, and caches that are written in place."""
    ids, _, _, *chosen = graph_inputs(config, spec.model_copy(update={"cache_len": 0}))
    cache = (spec.batch_size, num_rows, config.num_key_value_heads, config.head_dim)
    return (
        ids,
        TensorSpec(name=names.START, dtype="int64", shape=(spec.batch_size,)),
        *chosen,
        *(
            TensorSpec(name=name(i), dtype=dtype, shape=cache)
            for i in range(config.num_hidden_layers)
            for name in (names.past_key, names.past_value)
        ),
    )


def program_rows(specs: Sequence[GraphSpec]) -> int:
    """Rows of a cache that programs write: a padded chunk at its very end has room."""
    return max(spec.cache_len for spec in specs) + max(spec.seq_len for spec in specs)


def chooses_rows(spec: GraphSpec) -> bool:
    """Whether the graph takes logit_rows."""
    return spec.phase != "score" and spec.seq_len > 1


def _cache_tensors(
    config: ModelConfig, spec: GraphSpec, rows: int, *namers: names.Namer
) -> list[TensorSpec]:
    shape = (spec.batch_size, config.num_key_value_heads, rows, config.head_dim)
    return [
        TensorSpec(name=name(i), dtype="float16", shape=shape)
        for i in range(config.num_hidden_layers)
        for name in namers
    ]
