"""What compiling torch programs for this CPU takes, and what running them takes."""

from collections.abc import Sequence

from profiles import Profile
from runtime.bundle.cpu_costs import cost_on_cpu
from runtime.bundle.manifest import GraphSpec, ModelConfig
from toolchain.costs.quantity import BuildCosts, Quantity
from toolchain.costs.sizes import cache_elements, linear_shapes, num_parameters
from toolchain.targets.base import Footprint

__all__ = ["TORCH_CPU_FOOTPRINT", "program_specs"]

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
    """Every linear layer in float32."""
    return sum(FLOAT32 * rows * columns for rows, columns in linear_shapes(config).values())


def weights_part(config: ModelConfig, profile: Profile) -> Quantity:
    """See Footprint.weights."""
    return Quantity(
        name="weights",
        value=FLOAT32 * num_parameters(config),
        unit="B",
        formula=f"{num_parameters(config):,} parameters x {FLOAT32} B; mapped from their files",
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
            f"{COMPILE_SECONDS_PER_LAYER} s) of the C++ compiler; a guess",
            estimate=True,
        ),
    )


def state_parts(config: ModelConfig, profile: Profile) -> list[Quantity]:
    """See Footprint.state."""
    slots, specs = profile.num_slots, program_specs(profile.graphs)
    longest = max(spec.seq_len for spec in specs)
    rows = profile.cache_len + longest
    workspace, name = max((_workspace(config, spec, rows), spec.name) for spec in specs)
    return [
        Quantity(
            name="KV cache",
            value=FLOAT32 * slots * cache_elements(config, rows),
            unit="B",
            formula=f"{slots} slots x ({profile.cache_len} + {longest} rows for padding) x "
            f"{config.num_hidden_layers} layers x 2 x "
            f"{config.num_key_value_heads * config.head_dim} x {FLOAT32} B",
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


def call_costs(config: ModelConfig, profile: Profile) -> dict[GraphSpec, float]:
    """See Footprint.call_costs."""
    return {spec: cost_on_cpu(spec) for spec in profile.graphs}


def _workspace(config: ModelConfig, spec: GraphSpec, cached: int) -> int:
    rows = spec.batch_size * spec.seq_len
    scores = 2 * rows * config.num_attention_heads * cached
    inner = 3 * rows * config.intermediate_size
    logits = (rows if spec.phase == "score" else spec.batch_size) * config.vocab_size
    return FLOAT32 * (scores + inner + logits)


TORCH_CPU_FOOTPRINT = Footprint(
    compile=compile_costs,
    weights=weights_part,
    sharing="always",  # every program takes the same mapped files
    state=state_parts,
    weights_read=linear_bytes,
    call_costs=call_costs,
    cache_bytes=lambda _: FLOAT32,
    needs_chip=False,
    static_shapes=True,
)
