"""What a model will take on a deployment, from config.json and the profile alone."""

from dataclasses import dataclass, replace

from profiles import Profile
from runtime.manifest import ModelConfig
from toolchain.machine import num_cores, total_memory
from toolchain.quantity import Quantity, total
from toolchain.remedy import remedy
from toolchain.requests import device_parts, make_request
from toolchain.roofline import Roofline, rates
from toolchain.sizes import num_parameters

__all__ = ["Plan", "export_parts", "make_plan"]

FLOAT16 = 2
# As measured by benchmarks/build_memory.py.
GRAPH_BYTES, GRAPH_BYTES_PER_LAYER = 10_300, 18_950  # a portable graph, its part of the manifest
EXPORT_BYTES, EXPORT_BYTES_PER_LAYER = 315e6, 1.2e6  # Python and torch; one graph in memory
EXPORT_BYTES_PER_CORE = 8e6  # pieces of a weight
TRACE_SECONDS, TRACE_SECONDS_PER_LAYER = 3.0, 0.06
STREAM_BYTES_PER_SECOND = 2.4e8  # read, hashed and written
PROMPTS, CONTEXTS = (128, 512, 1024), (512, 1024, 2048)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The answer.

    build: what export and compile take, on this machine.
    device: parts of the device's memory, all of them resident at once.
    needs: bytes of the device with one copy of the weights, "shared", and with one "per_graph".
    available: bytes that the device has for them.
    remedy: the largest change that makes it fit, where it does not.
    """

    profile: str
    weights: str
    share_weights: bool
    build: dict[str, list[Quantity]]
    device: list[Quantity]
    needs: dict[str, float]
    available: float
    speed: list[Quantity]
    fits: bool
    remedy: str | None


def make_plan(
    config: ModelConfig,
    profile: Profile,
    weights: str | None = None,
    share_weights: bool = True,
) -> Plan:
    """Plans a model on a deployment.

    Args:
        config: the model.
        profile: the deployment.
        weights: overrides the profile's precision.
        share_weights: False plans one copy of the weights for every graph.

    Raises:
        TargetError: no such target, or a precision or sharing that it lacks.
    """
    request = make_request(config, profile, weights, share_weights)
    footprint, chip = request.target.footprint, profile.chip
    available = total_memory() if chip is None else chip.memory.value - chip.reserved.value
    needs = {"shared": total(device_parts(replace(request, share_weights=True)))}
    if footprint.sharing == "optional":
        needs["per_graph"] = total(device_parts(replace(request, share_weights=False)))
    fits = total(device_parts(request)) <= available
    roofline = Roofline(
        config=config,
        profile=profile,
        weights=request.weights,
        footprint=footprint,
        rates=rates(chip),
    )
    context = max(spec.cache_len for spec in profile.graphs)
    return Plan(
        profile=profile.name,
        weights=request.weights,
        share_weights=share_weights,
        build={
            "export": export_parts(config, profile),
            "compile": footprint.compile(config, profile, request.weights),
        },
        device=device_parts(request),
        needs=needs,
        available=available,
        speed=[
            *(roofline.first_token(length) for length in _up_to(PROMPTS, context)),
            *(roofline.per_token(length) for length in _up_to(CONTEXTS, context)),
        ],
        fits=fits,
        remedy=None if fits else remedy(request, available),
    )


def _up_to(lengths: tuple[int, ...], context: int) -> list[int]:
    """Those that the cache holds, or the whole of it where it is shorter than all."""
    return [length for length in lengths if length <= context] or [context]


def export_parts(config: ModelConfig, profile: Profile) -> list[Quantity]:
    """What `toolchain export` reads, writes and takes on the host."""
    layers, graphs = config.num_hidden_layers, len(profile.graphs)
    weights = FLOAT16 * num_parameters(config)
    graph_bytes = graphs * (GRAPH_BYTES + layers * GRAPH_BYTES_PER_LAYER)
    return [
        Quantity(
            name="read",
            value=weights,
            unit="B",
            formula=f"{num_parameters(config):,} parameters x 2 B, if the checkpoint is 16-bit",
        ),
        Quantity(
            name="write",
            value=weights + graph_bytes,
            unit="B",
            formula=f"weights in fp16 {weights:,} + {graphs} graphs {graph_bytes:,}",
        ),
        Quantity(
            name="host memory",
            value=EXPORT_BYTES
            + layers * EXPORT_BYTES_PER_LAYER
            + num_cores() * EXPORT_BYTES_PER_CORE,
            unit="B",
            formula=f"{EXPORT_BYTES / 1e6:.0f} MB + {layers} layers x "
            f"{EXPORT_BYTES_PER_LAYER / 1e6} MB of one graph + {num_cores()} cores x "
            f"{EXPORT_BYTES_PER_CORE / 1e6:.0f} MB of pieces of weights",
            estimate=True,
        ),
        Quantity(
            name="time",
            value=3
            + max(
                weights / STREAM_BYTES_PER_SECOND,
                graphs * (TRACE_SECONDS + layers * TRACE_SECONDS_PER_LAYER),
            ),
            unit="s",
            formula=f"3 s + the longer of {weights:,} B / {STREAM_BYTES_PER_SECOND:.1e} B/s and "
            f"{graphs} graphs x ({TRACE_SECONDS:.0f} s + {layers} layers x "
            f"{TRACE_SECONDS_PER_LAYER} s); slower where the disk is",
            estimate=True,
        ),
    ]
