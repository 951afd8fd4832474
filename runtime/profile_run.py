"""Where the time of one completion went: kernel by kernel, layer by layer, and around them."""

import json
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.bundle.node_names import EMBEDDING, split_layer
from runtime.completion import Completion

__all__ = ["GraphRun", "Kernel", "describe", "read_trace"]

SUFFIX = "_kernel_time"


@dataclass(frozen=True, slots=True)
class Kernel:
    """One kernel of one run; layer is None for the embedding, the last norm and the LM head."""

    operator: str
    name: str  # of the part of the model, without its layer
    layer: int | None
    ms: float


@dataclass(frozen=True, slots=True)
class GraphRun:
    """One run of the graph over some rows of every sequence."""

    num_rows: int
    ms: float
    kernels: list[Kernel]


def read_trace(directory: Path) -> list[GraphRun]:
    """Reads the traces that ONNX Runtime has left in a directory."""
    return [run for file in sorted(directory.glob("*.json")) for run in _runs(file)]


def _runs(file: Path) -> Iterator[GraphRun]:
    events: list[dict[str, Any]] = json.loads(file.read_bytes())
    nodes = sorted((e for e in events if e["name"].endswith(SUFFIX)), key=_start)
    for whole in (event for event in events if event["name"] == "model_run"):
        first = bisect_left(nodes, whole["ts"], key=_start)
        end = bisect_right(nodes, whole["ts"] + whole["dur"], key=_start)
        inside = nodes[first:end]
        embedding = next(event for event in inside if event["name"] == EMBEDDING + SUFFIX)
        _, ids = embedding["args"]["input_type_shape"]
        yield GraphRun(ids["int64"][-1], whole["dur"] / 1e3, [_kernel(event) for event in inside])


def _start(event: dict[str, Any]) -> int:
    """Microseconds after the profiler's start."""
    start: int = event["ts"]
    return start


def _kernel(event: dict[str, Any]) -> Kernel:
    layer, name = split_layer(event["name"].removesuffix(SUFFIX))
    return Kernel(
        operator=event["args"]["op_name"],
        name=name.partition("/")[0],
        layer=layer,
        ms=event["dur"] / 1e3,
    )


def describe(runs: list[GraphRun], completion: Completion) -> Iterator[str]:
    """The report on a completion, line by line; in ms of the whole prefill and of a mean token."""
    timings = completion.timings
    prefill = [run for run in runs if run.num_rows > 1]
    decode = [run for run in runs if run.num_rows == 1]
    num_rows = sum(run.num_rows for run in prefill)
    yield f"{len(prefill)} runs of {num_rows} rows together, {len(decode)} of one row"
    yield _line("kernel", "prefill ms", "share", "token ms", "share")
    yield from _table(prefill, decode, lambda kernel: f"{kernel.operator} {kernel.name}")
    yield _line("layer", "prefill ms", "share", "token ms", "share")
    yield from _table(prefill, decode, lambda kernel: "-" if kernel.layer is None else kernel.layer)
    yield f"prefill: {_session(prefill)}"
    yield f"token: {_session(decode, len(decode))}"
    if timings.tpot_ms is not None and decode:
        outside = timings.tpot_ms - sum(run.ms for run in decode) / len(decode)
        sampling = timings.sample_ms / completion.completion_tokens
        yield f"token: {outside:.3f} ms outside the session, sampling {sampling:.3f} of them"
    yield (
        f"tokenising {timings.tokenize_ms:.3f} ms, detokenising {timings.detokenize_ms:.3f} ms, "
        "of the whole completion"
    )


def _session(runs: list[GraphRun], per: int = 1) -> str:
    whole = sum(run.ms for run in runs) / max(1, per)
    kernels = sum(kernel.ms for run in runs for kernel in run.kernels) / max(1, per)
    return f"{whole:.3f} ms in the session, {kernels:.3f} of them in kernels"


def _table(
    prefill: list[GraphRun], decode: list[GraphRun], key: Callable[[Kernel], object]
) -> Iterator[str]:
    """One line for each group of kernels, in the order in which they run."""
    of_prompt, of_tokens = _sums(prefill, key), _sums(decode, key)
    totals = [sum(sums.values()) or 1.0 for sums in (of_prompt, of_tokens)]
    for group in dict.fromkeys((*of_prompt, *of_tokens)):
        prompt_ms, token_ms = of_prompt.get(group, 0.0), of_tokens.get(group, 0.0)
        yield _line(
            group,
            f"{prompt_ms:.3f}",
            f"{prompt_ms / totals[0]:.1%}",
            f"{token_ms / max(1, len(decode)):.3f}",
            f"{token_ms / totals[1]:.1%}",
        )


def _sums(runs: list[GraphRun], key: Callable[[Kernel], object]) -> dict[object, float]:
    sums: dict[object, float] = {}
    for run in runs:
        for kernel in run.kernels:
            group = key(kernel)
            sums[group] = sums.get(group, 0.0) + kernel.ms
    return sums


def _line(name: object, *cells: str) -> str:
    return f"{name!s:56}" + "".join(f"{cell:>12}" for cell in cells)
