"""What compiling for ONNX Runtime on CPU takes, and what running the bundle takes."""

from typing import NamedTuple

from profiles import BITS, Profile, layer_kind
from runtime.bundle.cpu_costs import cost_on_cpu
from runtime.bundle.manifest import GraphSpec, ModelConfig
from runtime.kernels.layout import TILE_ROWS
from runtime.sessions.onnx.inplace_cache import cache_rows
from runtime.threads import usable_threads
from toolchain.costs.quantity import BuildCosts, Quantity
from toolchain.costs.sizes import (
    cache_elements,
    embedding_elements,
    linear_shapes,
    num_parameters,
    vector_elements,
)
from toolchain.targets.base import Footprint
from toolchain.targets.cpu.calibration_lengths import (
    CALIBRATION_TOKENS,
    LONGEST,
    MOST_TOKENS,
    TEXTS_AT_ONCE,
)

__all__ = ["CPU_FOOTPRINT"]

FLOAT32, FLOAT16 = 4, 2
# As measured by benchmarks/build_memory.py.
GRAPH_BYTES, GRAPH_BYTES_PER_LAYER = 11_000, 11_850  # the graph and the manifest
DESCRIPTION_BYTES_PER_LAYER = 740  # of each member of the family in the manifest
COMPILE_BYTES, COMPILE_BYTES_PER_LAYER = 80e6, 0.6e6  # Python, numpy, onnx; one graph in memory
COMPILE_BYTES_PER_CORE = 3e6
QUANTIZED_PER_SECOND = 0.8e8  # weights, per core
# Calibrating an int8 cache: one layer's weights and the arrays of its rows, layer by layer.
CALIBRATION_ARRAYS = 4  # of the widest kind, 512 rows
CALIBRATION_PER_SECOND = 0.6e11  # products of weights and rows, per core
# Rounding weights by what they are given: one layer of the 7B takes 158 s of a core.
CALIBRATED_PER_SECOND = 1.3e6  # weights, per core
RUNTIME_BYTES = 60e6  # Python and ONNX Runtime


def widest(config: ModelConfig) -> int:
    """Float32 numbers of one row that a layer holds at once."""
    return 2 * config.intermediate_size + 4 * config.hidden_size


def cache_bytes(profile: Profile) -> int:
    """See Footprint.cache_bytes."""
    return FLOAT32 if profile.kv_cache == "float" else 1


def linear_bytes(config: ModelConfig, profile: Profile) -> int:
    """Every linear layer as it is stored: levels and scales, or float32.

    Scales are float16 in tiles of our own kernels, and float32 else.
    """
    shapes = linear_shapes(config)
    if profile.weights not in BITS:
        return sum(FLOAT32 * rows * columns for rows, columns in shapes.values())
    tile, scale = (TILE_ROWS, FLOAT16) if profile.kernels == "own" else (1, FLOAT32)
    total = 0
    for name, (rows, columns) in shapes.items():
        bits, size = profile.fineness(layer_kind(name.removesuffix(".weight")))
        total += -(-rows // tile) * tile * -(-columns // size) * (size * bits // 8 + scale)
    return total


def sum_bytes(config: ModelConfig, profile: Profile) -> int:
    """What ONNX Runtime adds when it packs the weights: a float32 beside every scale."""
    if profile.weights not in BITS or profile.kernels == "own":
        return 0
    total = 0
    for name, (rows, columns) in linear_shapes(config).items():
        size = profile.fineness(layer_kind(name.removesuffix(".weight"))).block_size
        total += FLOAT32 * rows * -(-columns // size)
    return total


def weights_read(config: ModelConfig, profile: Profile) -> int:
    """See Footprint.weights_read: the linear layers as they lie in memory."""
    return linear_bytes(config, profile) + sum_bytes(config, profile)


class Calibration(NamedTuple):
    """What measuring texts takes besides: bytes, seconds, and of what."""

    memory: float
    seconds: float
    what: str


def _calibrations(config: ModelConfig, profile: Profile) -> list[Calibration]:
    """Those that a profile asks for."""
    layer, cores = linear_bytes(config, profile) / config.num_hidden_layers, usable_threads()
    row, found = FLOAT32 * widest(config), []
    if profile.calibrate is not None:
        moments = FLOAT32 * config.intermediate_size**2
        streams = FLOAT32 * MOST_TOKENS * config.hidden_size
        memory = layer + moments + streams + (1 + cores) * TEXTS_AT_ONCE * LONGEST * row
        seconds = num_parameters(config) / (CALIBRATED_PER_SECOND * cores)
        found.append(Calibration(memory, seconds, f"rounding by up to {MOST_TOKENS} tokens"))
    if profile.kv_cache == "int8":
        memory = layer + CALIBRATION_TOKENS * CALIBRATION_ARRAYS * row
        seconds = num_parameters(config) * CALIBRATION_TOKENS / (CALIBRATION_PER_SECOND * cores)
        what = f"calibrating the cache with {CALIBRATION_TOKENS} tokens"
        found.append(Calibration(memory, seconds, what))
    return found


def compile_costs(config: ModelConfig, profile: Profile) -> BuildCosts:
    """See Footprint.compile."""
    layers, num_graphs, cores = config.num_hidden_layers, len(profile.graphs), usable_threads()
    linears = linear_bytes(config, profile)
    embedding = 2 * embedding_elements(config)
    rows = cache_rows(profile.cache_len)
    floats = FLOAT32 * (vector_elements(config) + rows * config.head_dim)
    described = GRAPH_BYTES_PER_LAYER + num_graphs * DESCRIPTION_BYTES_PER_LAYER
    graphs = GRAPH_BYTES + layers * described
    if profile.kv_cache == "int8":
        graphs += FLOAT32 * 2 * layers * config.num_key_value_heads * config.head_dim  # scales
    extras = _calibrations(config, profile)
    memory = max((extra.memory for extra in extras), default=0.0)  # one after the other
    memory_said = f" + {memory / 1e6:.0f} MB of a layer that is calibrated" if extras else ""
    seconds = sum(extra.seconds for extra in extras)
    seconds_said = "".join(f" + {extra.seconds:.0f} s of {extra.what}" for extra in extras)
    return BuildCosts(
        write=Quantity(
            name="write",
            value=linears + embedding + floats + graphs,
            unit="B",
            formula=f"linear layers {linears:,} in {profile.weights} + embedding "
            f"{embedding:,} in fp16 + norms and angles {floats:,} + graph and manifest {graphs:,}",
        ),
        host_memory=Quantity(
            name="host memory",
            value=COMPILE_BYTES
            + layers * COMPILE_BYTES_PER_LAYER
            + cores * COMPILE_BYTES_PER_CORE
            + memory,
            unit="B",
            formula=f"{COMPILE_BYTES / 1e6:.0f} MB + {layers} layers x "
            f"{COMPILE_BYTES_PER_LAYER / 1e6} MB of one graph + {cores} cores x "
            f"{COMPILE_BYTES_PER_CORE / 1e6:.0f} MB of one piece of a weight{memory_said}",
            estimate=True,
        ),
        time=Quantity(
            name="time",
            value=3 + num_parameters(config) / (QUANTIZED_PER_SECOND * cores) + seconds,
            unit="s",
            formula=f"3 s + {num_parameters(config):,} weights / {cores} cores / "
            f"{QUANTIZED_PER_SECOND:.1e} per second{seconds_said}; slower where the disk is",
            estimate=True,
        ),
    )


def weights_part(config: ModelConfig, profile: Profile) -> Quantity:
    """See Footprint.weights."""
    linears, embedding = linear_bytes(config, profile), 2 * embedding_elements(config)
    sums = sum_bytes(config, profile)
    return Quantity(
        name="weights",
        value=linears + sums + embedding,
        unit="B",
        formula=f"linear layers {linears:,} in {profile.weights} + sums of blocks {sums:,} + "
        f"embedding {embedding:,}",
    )


def state_parts(config: ModelConfig, profile: Profile) -> list[Quantity]:
    """See Footprint.state."""
    slots = profile.num_slots
    rows = cache_rows(profile.cache_len)
    longest = max(spec.seq_len for spec in profile.graphs)
    cache = cache_bytes(profile) * slots * cache_elements(config, rows)
    batch_size = max(spec.batch_size for spec in profile.graphs)
    logits = FLOAT32 * batch_size * config.vocab_size
    return [
        Quantity(
            name="KV cache",
            value=cache,
            unit="B",
            formula=f"{slots} slots x {rows} rows x {config.num_hidden_layers} layers x 2 x "
            f"{config.num_key_value_heads * config.head_dim} x {cache_bytes(profile)} B; "
            "touched as it fills",
        ),
        Quantity(
            name="workspace",
            value=FLOAT32 * longest * widest(config),
            unit="B",
            formula=f"{longest} rows x (2 x {config.intermediate_size} + "
            f"4 x {config.hidden_size}) x 4 B",
            estimate=True,
        ),
        Quantity(
            name="logits",
            value=logits,
            unit="B",
            formula=f"{batch_size} sequences x {config.vocab_size} pieces x 4 B",
        ),
        Quantity(
            name="Python and ONNX Runtime",
            value=RUNTIME_BYTES,
            unit="B",
            formula="measured with a model of a few MB",
            estimate=True,
        ),
    ]


def call_costs(config: ModelConfig, profile: Profile) -> dict[GraphSpec, float]:
    """See Footprint.call_costs."""
    return {spec: cost_on_cpu(spec) for spec in profile.graphs}


CPU_FOOTPRINT = Footprint(
    compile=compile_costs,
    weights=weights_part,
    sharing="always",  # one graph computes the whole family
    state=state_parts,
    weights_read=weights_read,
    call_costs=call_costs,
    cache_bytes=cache_bytes,
    needs_chip=False,
    static_shapes=False,
)
