"""toolchain plan MODEL."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolchain.options import (
    AsJson,
    CacheOption,
    JsonFile,
    ProfileOption,
    TargetOption,
    WeightsOption,
)

if TYPE_CHECKING:
    from toolchain.costs.quantity import Quantity

__all__ = ["command"]

COPIES = {"shared": "one copy of the weights", "per_graph": "one copy per graph"}


def command(
    model: Annotated[Path, typer.Argument(help="Directory with the model's config.json.")],
    profile: ProfileOption = "cpu",
    target: TargetOption = None,
    weights: WeightsOption = None,
    kv_cache: CacheOption = None,
    share_weights: Annotated[
        bool, typer.Option(help="Plan one copy of the weights for all graphs, or one for each.")
    ] = True,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print the formula of every line.")
    ] = False,
    as_json: AsJson = False,
    output: JsonFile = None,
) -> None:
    """Say what a model takes and how fast it can be; exit 1 if it does not fit."""
    from export.config import load_config
    from profiles import load_profile
    from runtime.console import show
    from runtime.documents import document, give_document
    from toolchain.choices import Choices
    from toolchain.console import human_bytes, print_table
    from toolchain.costs.quantity import total
    from toolchain.errors import PlanError
    from toolchain.host.machine import total_memory
    from toolchain.plan.planner import make_plan

    deployment = load_profile(profile)
    choices = Choices(target=target, weights=weights, kv_cache=kv_cache)
    plan = make_plan(load_config(model), deployment, choices, share_weights)
    device = "this machine" if deployment.chip is None else deployment.description
    if as_json or output is not None:
        give_document(document("plan", asdict(plan)), output)
    else:
        columns = ("", "value", "", *(["formula"] if explain else []))
        memory = human_bytes(total_memory())
        for step, parts in plan.build.items():
            print_table(f"{step} (host of {memory})", columns, _rows(parts, explain))
        print_table("memory of the device", columns, _rows(plan.device, explain))
        print_table("speed at best", columns, _rows(plan.speed, explain))
        for copies, needed in plan.needs.items():
            verdict = "fits" if needed <= plan.available else "does not fit"
            show(
                f"{COPIES[copies]}: {needed / 1e9:.1f} of {plan.available / 1e9:.1f} GB, {verdict}"
            )
    if not plan.fits:
        raise PlanError(
            f"the model does not fit {device}",
            got=f"{total(plan.device) / 1e9:.1f} GB",
            allowed=f"{plan.available / 1e9:.1f} GB",
            next_step=f"largest change that makes it fit: {plan.remedy}",
        )


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
