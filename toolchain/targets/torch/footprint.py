"""What compiling torch programs takes, and what running them takes."""

from collections.abc import Sequence
from dataclasses import replace

from profiles import BITS, Profile, layer_kind
from runtime.bundle.cpu_costs import cost_on_cpu
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
from toolchain.targets.torch.devices import BYTES, DEVICES

__all__ = ["CPU_FOOTPRINT", "CUDA_FOOTPRINT", "program_specs"]

FLOAT32 = 4
# Guesses from a model of four layers: machine code is written out layer by layer.
PACKAGE_BYTES, PACKAGE_BYTES_PER_LAYER = 1.5e6, 0.2e6
COMPILE_BYTES, COMPILE_BYTES_PER_LAYER = 1.2e9, 20e6
COMPILE_SECONDS, COMPILE_SECONDS_PER_LAYER = 20, 2
RUNTIME_BYTES = 400e6  # Python and torch


def program_specs(specs: Sequence[GraphSpec]) -> list[GraphSpec]:
    """The graphs that become programs: all that the engine calls.

    It scores on a cache only.
    """
    return [spec for spec in specs if spec.cache_len or spec.phase == "prefill"]


def linear_bytes(config: ModelConfig, profile: Profile) -> int:
    """Every linear layer: numbers as they are, or levels with their scales."""
    size = number_bytes(profile)
    total = 0
    for name, (rows, columns) in linear_shapes(config).items():
        if profile.weights not in BITS:
            total += size * rows * columns
            continue
        bits, block_size = profile.fineness(layer_kind(name.removesuffix(".weight")))
        per_scale = 2 if bits == 4 else 1  # int4 has a zero beside each scale
        groups = -(-columns // (block_size or columns))
        total += rows * columns * bits // 8 + size * per_scale * rows * groups
    return total


def number_bytes(profile: Profile) -> int:
    """Of a number that programs compute with."""
    return BYTES[DEVICES[profile.target].dtypes[profile.weights]]


def weights_part(config: ModelConfig, profile: Profile) -> Quantity:
    """See Footprint.weights."""
    linears = linear_bytes(config, profile)
    rest = embedding_elements(config) * (not config.tie_word_embeddings or profile.weights in BITS)
    rest = number_bytes(profile) * (rest + vector_elements(config))
    return Quantity(
        name="weights",
        value=linears + rest,
        unit="B",
        formula=f"linear layers {linears:,} in {profile.weights} + embedding and norms {rest:,}; "
        "one copy for all graphs",
    )


def compile_costs(config: ModelConfig, profile: Profile) -> BuildCosts:
    """See Footprint.compile."""
    layers, graphs = config.num_hidden_layers, len(program_specs(profile.graphs))
    stored = weights_part(config, profile).value
    return BuildCosts(
        write=Quantity(
            name="write",
            value=stored + graphs * (PACKAGE_BYTES + layers * PACKAGE_BYTES_PER_LAYER),
            unit="B",
            formula=f"weights {stored:,.0f} + {graphs} graphs x ({PACKAGE_BYTES / 1e6} MB + "
            f"{layers} layers x {PACKAGE_BYTES_PER_LAYER / 1e6} MB) of machine code",
            estimate=True,
        ),
        host_memory=Quantity(
            name="host memory",
            value=COMPILE_BYTES + layers * COMPILE_BYTES_PER_LAYER,
            unit="B",
            formula=f"torch and the C++ compiler {COMPILE_BYTES / 1e9} GB + {layers} layers x "
            f"{COMPILE_BYTES_PER_LAYER / 1e6:.0f} MB, one graph at a time; a guess",
            estimate=True,
        ),
        time=Quantity(
            name="time",
            value=graphs * (COMPILE_SECONDS + layers * COMPILE_SECONDS_PER_LAYER),
            unit="s",
            formula=f"{graphs} graphs x ({COMPILE_SECONDS} s + {layers} layers x "
            f"{COMPILE_SECONDS_PER_LAYER} s) of the compilers; a guess",
            estimate=True,
        ),
    )


def state_parts(config: ModelConfig, profile: Profile) -> list[Quantity]:
    """See Footprint.state."""
    size, slots, specs = number_bytes(profile), profile.num_slots, program_specs(profile.graphs)
    longest = max(spec.seq_len for spec in specs)
    rows = profile.cache_len + longest
    workspace, name = max((_workspace(config, spec, rows), spec.name) for spec in specs)
    return [
        Quantity(
            name="KV cache",
            value=size * slots * cache_elements(config, rows),
            unit="B",
            formula=f"{slots} slots x ({profile.cache_len} + {longest} rows for padding) x "
            f"{config.num_hidden_layers} layers x 2 x "
            f"{config.num_key_value_heads * config.head_dim} x {size} B",
        ),
        Quantity(
            name="workspace",
            value=workspace,
            unit="B",
            formula=f"that of {name}: attention's scores twice, the feed-forward, the logits",
            estimate=True,
        ),
        Quantity(
            name="Python and torch",
            value=RUNTIME_BYTES,
            unit="B",
            formula="a guess",
            estimate=True,
        ),
    ]


def costs_on_cpu(config: ModelConfig, profile: Profile) -> dict[GraphSpec, float]:
    """See Footprint.call_costs."""
    return {spec: cost_on_cpu(spec) for spec in profile.graphs}


def costs_on_cuda(config: ModelConfig, profile: Profile) -> dict[GraphSpec, float]:
    """See Footprint.call_costs."""
    rates, weight_bytes = chip_rates(profile.chip), linear_bytes(config, profile)
    size = number_bytes(profile)
    return in_steps(
        {
            spec: rates.seconds(*work_of_graph(config, weight_bytes, size, spec))
            for spec in profile.graphs
        }
    )


def _workspace(config: ModelConfig, spec: GraphSpec, cached: int) -> int:
    rows = spec.batch_size * spec.seq_len
    scores = 2 * rows * config.num_attention_heads * cached
    inner = 3 * rows * config.intermediate_size
    logits = (rows if spec.phase == "score" else spec.batch_size) * config.vocab_size
    return FLOAT32 * (scores + inner + logits)


CPU_FOOTPRINT = Footprint(
    compile=compile_costs,
    weights=weights_part,
    sharing="always",  # every program takes the same tensors
    state=state_parts,
    weights_read=linear_bytes,
    call_costs=costs_on_cpu,
    cache_bytes=number_bytes,
    needs_chip=False,
    static_shapes=True,
)
CUDA_FOOTPRINT = replace(CPU_FOOTPRINT, call_costs=costs_on_cuda, needs_chip=True)
