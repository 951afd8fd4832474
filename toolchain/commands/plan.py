"""toolchain plan MODEL."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolchain.options import (
    AsJson,
    CacheOption,
    JsonFile,
    KernelsOption,
    ProfileOption,
    RopeOption,
    TargetOption,
    WeightsOption,
)

if TYPE_CHECKING:
    from profiles import Profile
    from runtime.bundle.manifest import GraphSpec, ModelConfig
    from toolchain.choices import Choices
    from toolchain.costs.calls import Counted
    from toolchain.costs.quantity import Quantity
    from toolchain.plan.graph_calls import GraphCall
    from toolchain.plan.planner import Plan

__all__ = ["command"]

CALLS = ("graph", "kernels", "moves", "as lowered", "least", "limit", "steps")
SHORT = ("graph", "cached rows", "saves per call", "memory", "compiles in")
COPIES = {"shared": "one copy of the weights", "per_graph": "one copy per graph"}


def command(
    model: Annotated[Path, typer.Argument(help="Directory with the model's config.json.")],
    profile: ProfileOption = "cpu",
    target: TargetOption = None,
    weights: WeightsOption = None,
    kv_cache: CacheOption = None,
    kernels: KernelsOption = None,
    share_weights: Annotated[
        bool, typer.Option(help="Plan one copy of the weights for all graphs, or one for each.")
    ] = True,
    lowered: Annotated[
        bool, typer.Option(help="Count what a chip's graphs move: some seconds, needs torch.")
    ] = True,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print the formula of every line.")
    ] = False,
    rope: RopeOption = None,
    as_json: AsJson = False,
    output: JsonFile = None,
) -> None:
    """Say what a model takes and how fast it can be; exit 1 if it does not fit."""
    from export.config import scaled_config
    from export.packing import read_packing
    from profiles import load_profile
    from runtime.documents import document, give_document
    from toolchain.choices import Choices
    from toolchain.costs.quantity import total
    from toolchain.errors import PlanError
    from toolchain.plan.planner import make_plan

    deployment = load_profile(profile)
    packing = read_packing(model)
    choices = Choices(
        target=target,
        weights=weights,
        kv_cache=kv_cache,
        kernels=kernels,
        group_size=None if packing is None else packing.group_size,
    )
    config = scaled_config(model, rope, deployment)
    counted = _counted(config, deployment, choices) if lowered else {}
    plan = make_plan(config, deployment, choices, share_weights, counted)
    device = "this machine" if deployment.chip is None else deployment.description
    if as_json or output is not None:
        give_document(document("plan", asdict(plan)), output)
    else:
        _show(plan, explain)
    if not plan.fits:
        raise PlanError(
            f"the model does not fit {device}",
            got=f"{total(plan.device) / 1e9:.1f} GB",
            allowed=f"{plan.available / 1e9:.1f} GB",
            next_step=f"largest change that makes it fit: {plan.remedy}",
        )


def _show(plan: "Plan", explain: bool) -> None:
    """The plan as tables, and whether it fits."""
    from runtime.console import show
    from toolchain.console import human_bytes, print_table
    from toolchain.host.machine import total_memory

    columns = ("", "value", "", *(["formula"] if explain else []))
    memory = human_bytes(total_memory())
    for step, parts in plan.build.items():
        print_table(f"{step} (host of {memory})", columns, _rows(parts, explain))
    print_table("memory of the device", columns, _rows(plan.device, explain))
    print_table(*_speed(plan, explain))
    print_table("a call of every graph", CALLS, [_call(call) for call in plan.calls])
    if plan.short_caches:
        print_table("what graphs for fewer cached rows cost", SHORT, _short(plan))
    for copies, needed in plan.needs.items():
        verdict = "fits" if needed <= plan.available else "does not fit"
        sizes = f"{needed / 1e9:.1f} of {plan.available / 1e9:.1f} GB"
        show(f"{COPIES[copies]}: {sizes}, {verdict}")


def _counted(
    config: "ModelConfig", profile: "Profile", choices: "Choices"
) -> "dict[GraphSpec, Counted]":
    """The graphs as they are lowered; none where the packages are not installed."""
    from runtime.console import note
    from toolchain.console import ConsoleProgress
    from toolchain.plan.planner import count_graphs

    try:
        with ConsoleProgress() as progress:
            return count_graphs(config, profile, choices, progress)
    except ModuleNotFoundError as error:
        note(f"the graphs are not counted, since {error.name} is missing: pip install '.[export]'")
        return {}


def _speed(plan: "Plan", explain: bool) -> tuple[str, tuple[str, ...], list[tuple[str, ...]]]:
    """Title, columns and rows: as lowered beside the limit, where the graphs are counted."""
    if not plan.lowered:
        columns = ("", "value", "", *(["formula"] if explain else []))
        return "speed at best", columns, _rows(plan.speed, explain)
    rows: list[tuple[str, ...]] = []
    for limit, lowered in zip(plan.speed, plan.lowered, strict=True):
        row = (limit.name, _seconds(lowered.value), _seconds(limit.value), "estimate")
        said = f"as lowered: {lowered.formula}; limit: {limit.formula}"
        rows.append((*row, said) if explain else row)
    columns = ("", "as lowered", "the chip's limit", "", *(["formula"] if explain else []))
    return "speed", columns, rows


def _call(call: "GraphCall") -> tuple[str, ...]:
    lowered = call.lowered
    counted = ("", "", "")
    if lowered is not None:
        moved = f"{lowered.num_bytes / 1e9:.2f} GB"
        counted = (str(lowered.kernels), moved, _seconds(lowered.seconds))
    limit = (f"{call.least_bytes / 1e9:.2f} GB", _seconds(call.limit_s))
    return (call.graph, *counted, *limit, f"{call.steps:.1f}")


def _short(plan: "Plan") -> list[tuple[str, ...]]:
    from toolchain.console import human_bytes

    return [
        (
            each.graph,
            f"{each.cached_rows:,}",
            _seconds(each.saved_s),
            human_bytes(round(each.device_bytes)),
            _seconds(each.compile_s),
        )
        for each in plan.short_caches
    ]


def _rows(parts: "list[Quantity]", explain: bool) -> list[tuple[str, ...]]:
    from toolchain.console import human_bytes

    rows: list[tuple[str, ...]] = []
    for part in parts:
        value = human_bytes(round(part.value)) if part.unit == "B" else _seconds(part.value)
        row = (part.name, value, "estimate" if part.estimate else "")
        rows.append((*row, part.formula) if explain else row)
    return rows


def _seconds(value: float) -> str:
    return f"{value:.0f} s" if value >= 10 else f"{1000 * value:.1f} ms"
