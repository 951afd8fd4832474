"""What compiling with ATC takes, and what the compiled graphs take on an Ascend chip.

Sizes follow from the graphs' shapes. What ATC and the chip need besides has never been measured
here and is an estimate throughout.
"""

from profiles import Profile
from runtime.bundle.manifest import GraphSpec, ModelConfig
from toolchain.costs.calls import in_steps, work_of_graph
from toolchain.costs.quantity import BuildCosts, Quantity
from toolchain.costs.rates import chip_rates
from toolchain.costs.sizes import (
    cache_elements,
    embedding_elements,
    linear_shapes,
    vector_elements,
)
from toolchain.targets.base import Footprint

__all__ = ["ASCEND_FOOTPRINT"]

FLOAT16, FLOAT32, INT64 = 2, 4, 8
GRAPH_BYTES_PER_LAYER = 300_000  # of an OM without its weights
# What a loaded OM takes besides weights, workspace and buffers: kernels, their arguments, streams.
LOADED_BYTES_PER_LAYER = 1_000_000  # a guess
# ATC holds all weights as constants while it optimises, and again in the chip's own layout
# (hicann/ge, docs/zh/design/features/external_weight.md); the kernels' compilers come on top.
ATC_COPIES, ATC_BYTES = 2, 4e9
ATC_SECONDS_PER_LAYER = 20


def linear_bytes(config: ModelConfig, profile: Profile) -> int:
    """Linear layers in float16, or in int8 with float16 scales (W8A16), one for every group."""
    shapes, size = linear_shapes(config).values(), profile.block_size
    if profile.weights == "fp16":
        return sum(FLOAT16 * rows * columns for rows, columns in shapes)
    return sum(
        rows * (columns + FLOAT16 * (-(-columns // size) if size else 1))
        for rows, columns in shapes
    )


def weights_part(config: ModelConfig, profile: Profile) -> Quantity:
    """See Footprint.weights."""
    linears = linear_bytes(config, profile)
    rest = FLOAT16 * (embedding_elements(config) + vector_elements(config))
    return Quantity(
        name="weights",
        value=linears + rest,
        unit="B",
        formula=f"linear layers {linears:,} in {profile.weights} + "
        f"embedding and norms {rest:,} in fp16",
    )


def _graphs(profile: Profile) -> tuple[GraphSpec, ...]:
    """All that are compiled."""
    return (*profile.graphs, *profile.short_graphs)


def compile_costs(config: ModelConfig, profile: Profile) -> BuildCosts:
    """See Footprint.compile."""
    layers, graphs = config.num_hidden_layers, len(_graphs(profile))
    stored = weights_part(config, profile).value
    return BuildCosts(
        write=Quantity(
            name="write",
            value=stored + graphs * layers * GRAPH_BYTES_PER_LAYER,
            unit="B",
            formula=f"weights {stored:,.0f}, once if all graphs keep one layout of them + "
            f"{graphs} graphs x {layers} layers x {GRAPH_BYTES_PER_LAYER / 1e6} MB",
            estimate=True,
        ),
        host_memory=Quantity(
            name="host memory",
            value=ATC_COPIES * stored + ATC_BYTES,
            unit="B",
            formula=f"ATC, one graph at a time: {ATC_COPIES} x weights {stored:,.0f} + "
            f"{ATC_BYTES / 1e9:.0f} GB; users report more where kernels compile in parallel",
            estimate=True,
        ),
        time=Quantity(
            name="time",
            value=graphs * layers * ATC_SECONDS_PER_LAYER,
            unit="s",
            formula=f"{graphs} graphs x {layers} layers x {ATC_SECONDS_PER_LAYER} s; a guess",
            estimate=True,
        ),
    )


def _workspace(config: ModelConfig, spec: GraphSpec) -> int:
    """The largest that lives at once in a layer: attention's scores or the feed-forward's rows."""
    rows, columns = spec.batch_size * spec.seq_len, spec.cache_len + spec.seq_len
    scores = rows * config.num_attention_heads * columns * (FLOAT16 + 2 * FLOAT32)
    masks = 2 * FLOAT16 * rows * columns
    joined = FLOAT16 * spec.batch_size * cache_elements(config, columns) // config.num_hidden_layers
    inner = 3 * FLOAT16 * rows * config.intermediate_size
    return max(scores + joined, inner) + masks + 2 * FLOAT32 * rows * config.hidden_size


def _logit_rows(spec: GraphSpec) -> int:
    return spec.batch_size * (spec.seq_len if spec.phase == "score" else 1)


def cache_rows(profile: Profile) -> int:
    """Of a slot; where the graphs write them, a padded chunk at its very end has room."""
    padding = max(spec.seq_len for spec in profile.graphs) if profile.via == "air" else 0
    return profile.cache_len + padding


def state_parts(config: ModelConfig, profile: Profile) -> list[Quantity]:
    """See Footprint.state."""
    slots, rows = profile.num_slots, cache_rows(profile)
    workspace, largest = max((_workspace(config, spec), spec.name) for spec in profile.graphs)
    return [
        Quantity(
            name="KV cache",
            value=FLOAT16 * slots * cache_elements(config, rows),
            unit="B",
            formula=f"{slots} slots x {rows} rows x {config.num_hidden_layers} layers x 2 x "
            f"{config.num_key_value_heads * config.head_dim} x 2 B",
        ),
        Quantity(
            name="workspace",
            value=workspace,
            unit="B",
            formula=f"shared by all graphs, that of {largest}: attention's scores in fp16 and "
            f"twice in fp32, joined keys and values of a layer, two fp16 masks, two fp32 residual "
            "streams",
            estimate=True,
        ),
        *_buffers(config, profile),
        _loaded(config, len(_graphs(profile))),
    ]


def _buffers(config: ModelConfig, profile: Profile) -> list[Quantity]:
    """Inputs and outputs, which all graphs share: they run one at a time."""
    rows = max(spec.batch_size * spec.seq_len for spec in profile.graphs)
    batch = max(spec.batch_size for spec in profile.graphs)
    written = 0 if profile.via == "air" else FLOAT16 * cache_elements(config, rows)
    logits = max(map(_logit_rows, profile.graphs))
    return [
        Quantity(
            name="ids and new rows",
            value=(rows + batch) * INT64 + written,
            unit="B",
            formula=f"shared by all graphs: ids of {rows} rows and {batch} starts in int64, "
            + (f"new keys and values of every layer in fp16 {written:,}" if written else "no more"),
        ),
        Quantity(
            name="logits",
            value=FLOAT32 * config.vocab_size * logits,
            unit="B",
            formula=f"shared by all graphs: 4 B x {config.vocab_size} pieces x {logits} rows",
        ),
    ]


def _loaded(config: ModelConfig, graphs: int) -> Quantity:
    """What each graph has of its own; all of them are loaded at once."""
    layers = config.num_hidden_layers
    return Quantity(
        name="loaded graphs",
        value=graphs * layers * LOADED_BYTES_PER_LAYER,
        unit="B",
        formula=f"{graphs} graphs x {layers} layers x "
        f"{LOADED_BYTES_PER_LAYER / 1e6:.0f} MB of kernels and their arguments; a guess",
        estimate=True,
    )


def call_costs(config: ModelConfig, profile: Profile) -> dict[GraphSpec, float]:
    """See Footprint.call_costs."""
    rates, weight_bytes = chip_rates(profile.chip), linear_bytes(config, profile)
    return in_steps(
        {
            spec: rates.seconds(*work_of_graph(config, weight_bytes, FLOAT16, spec))
            for spec in _graphs(profile)
        }
    )


ASCEND_FOOTPRINT = Footprint(
    compile=compile_costs,
    weights=weights_part,
    sharing="optional",  # aclmdlSetExternalWeightAddress, CANN 8.5 and newer
    state=state_parts,
    weights_read=linear_bytes,
    call_costs=call_costs,
    cache_bytes=lambda _: FLOAT16,
    needs_chip=True,
    static_shapes=True,
)
