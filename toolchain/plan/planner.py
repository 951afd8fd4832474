"""What a model will take on a deployment, from config.json and the profile alone."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from profiles import Profile
from runtime.bundle.manifest import GraphSpec, ModelConfig
from runtime.progress import SILENT, Progress
from toolchain.choices import AS_PROFILED, Choices
from toolchain.costs.calls import Counted
from toolchain.costs.export_costs import export_costs
from toolchain.costs.quantity import Quantity, total
from toolchain.costs.rates import chip_rates, host_rates
from toolchain.host.machine import total_memory
from toolchain.plan.graph_calls import GraphCall, graph_calls
from toolchain.plan.lowered import LoweredTimes
from toolchain.plan.remedy import remedy
from toolchain.plan.request import device_parts, make_request
from toolchain.plan.roofline import Roofline
from toolchain.plan.short_caches import ShortCache, short_caches
from toolchain.targets.base import Count

__all__ = ["Plan", "count_graphs", "make_plan"]

NOT_COUNTED: Mapping[GraphSpec, Counted] = {}
PROMPTS, CONTEXTS = (128, 512, 1024, 4096, 16_384), (512, 1024, 2048, 4096, 16_384)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The answer.

    build: what export and compile take, on this machine.
    device: parts of the device's memory, all of them resident at once.
    needs: bytes of the device with one copy of the weights, "shared", and with one "per_graph".
    available: bytes that the device has for them.
    speed: times at the device's limit: what cannot be done without, at the rates that it reaches.
    lowered: the same times as the graphs are lowered; none where they are not counted.
    calls: of every graph.
    short_caches: what each graph for fewer cached rows costs and saves.
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
    lowered: list[Quantity]
    calls: list[GraphCall]
    short_caches: list[ShortCache]
    fits: bool
    remedy: str | None


def make_plan(
    config: ModelConfig,
    profile: Profile,
    choices: Choices = AS_PROFILED,
    share_weights: bool = True,
    counted: Mapping[GraphSpec, Counted] = NOT_COUNTED,
) -> Plan:
    """Plans a model on a deployment.

    Args:
        config: the model.
        profile: the deployment.
        choices: over the profile.
        share_weights: False plans one copy of the weights for every graph.
        counted: what count_graphs gave for the same.

    Raises:
        TargetError: no such target, or a precision or sharing that it lacks.
    """
    request = make_request(config, profile, choices, share_weights)
    profile = request.profile
    footprint, chip = request.target.footprint, profile.chip
    available = total_memory() if chip is None else chip.memory.value - chip.reserved.value
    needs = {"shared": total(device_parts(replace(request, share_weights=True)))}
    if footprint.sharing == "optional":
        needs["per_graph"] = total(device_parts(replace(request, share_weights=False)))
    fits = needs["shared" if share_weights else "per_graph"] <= available
    roofline = Roofline(
        config=config,
        profile=profile,
        footprint=footprint,
        rates=host_rates() if chip is None else chip_rates(chip),
        costs=footprint.call_costs(config, profile),
    )
    return Plan(
        profile=profile.name,
        weights=profile.weights,
        share_weights=share_weights,
        build={
            "export": export_costs(config, profile).lines,
            "compile": footprint.compile(config, profile).lines,
        },
        device=device_parts(request),
        needs=needs,
        available=available,
        speed=_speed(roofline, profile, footprint.static_shapes),
        lowered=_speed(LoweredTimes(counted=counted), profile, True) if counted else [],
        calls=graph_calls(roofline, counted),
        short_caches=short_caches(roofline, counted),
        fits=fits,
        remedy=None if fits else remedy(request, available),
    )


def count_graphs(
    config: ModelConfig,
    profile: Profile,
    choices: Choices = AS_PROFILED,
    progress: Progress = SILENT,
) -> dict[GraphSpec, Counted]:
    """What every graph of a deployment moves as it is lowered; none for a CPU.

    Traces every graph, without weights: some seconds each.

    Raises:
        ConfigError, TargetError: as make_plan.
        ModuleNotFoundError: the packages of export are not installed.
    """
    request = make_request(config, profile, choices, share_weights=True)
    if request.target.count is None:
        return {}
    count: Count = request.target.count.load()
    return count(config, request.profile, progress)


def _speed(times: Roofline | LoweredTimes, profile: Profile, checks_drafts: bool) -> list[Quantity]:
    """Prompts, tokens, steps of several sequences, and where shapes are fixed, checks of drafts."""
    graphs, context = profile.graphs, profile.cache_len
    batches = [spec.batch_size for spec in graphs if spec.phase == "decode" and spec.batch_size > 1]
    checks = [spec.seq_len for spec in graphs if spec.phase == "score" and spec.batch_size == 1]
    return [
        *map(times.first_token, _up_to(PROMPTS, context)),
        *map(times.per_token, _up_to(CONTEXTS, context)),
        *map(times.step, batches),
        *(map(times.check, checks) if checks_drafts else ()),
    ]


def _up_to(lengths: tuple[int, ...], context: int) -> list[int]:
    """Those that the cache holds, or the whole of it where it is shorter than all."""
    return [length for length in lengths if length <= context] or [context]
