"""A bundle and a grid in, a Result out: warm-up, repeats, and what the sizes say beside them."""

import platform
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from profiles import Chip, exported_profile
from runtime.bundle.reader import WEIGHTS_DIR, Bundle
from runtime.sessions import open_session
from runtime.text.tokenizer import open_tokenizer
from runtime.threads import usable_threads
from runtime.timing import now
from toolchain.bench.grid import Case
from toolchain.bench.measure import Runner, TimedRun
from toolchain.bench.result import BenchResult, Machine, Mode, Reach, Row, Spread
from toolchain.bench.timed_session import TimedSession
from toolchain.costs.sizes import num_parameters
from toolchain.errors import TargetError
from toolchain.host.machine import (
    cpu_name,
    peak_memory,
    read_bandwidth,
    restart_peak_memory,
    total_memory,
)
from toolchain.plan.roofline import Rates, Roofline, rates
from toolchain.targets import find_target

__all__ = ["bench"]

PACKAGES = ("numpy", "onnxruntime", "torch")
MS = 1e3
BYTES_PER_S = "measured on this machine before every case: all cores read float32"


def bench(
    bundle: Bundle, cases: Sequence[Case], *, model: str, mode: Mode, repeats: int
) -> BenchResult:
    """Measures a compiled bundle.

    Raises:
        TargetError: the bundle is not compiled.
        SessionError: its backend cannot be opened.
    """
    manifest = bundle.manifest
    if manifest.stage != "compiled":
        raise TargetError(
            f"{bundle.path} is not compiled", next_step="run `toolchain compile` on it first"
        )
    roofline = _roofline(bundle)
    chip = roofline.profile.chip
    restart_peak_memory()  # measuring the bandwidth took some
    started = now()
    with closing(TimedSession(open_session(bundle))) as session:
        runner = Runner(session, open_tokenizer(bundle))
        for case in cases:
            runner.prepare(case)
        load_s = now() - started
        loading = peak_memory()
        rows = tuple(_rows(runner, cases, roofline, mode, repeats, loading))
    return BenchResult(
        engine=f"alpaca2-toolchain {version('alpaca2-toolchain')}",
        device=cpu_name() if chip is None else chip.soc_name,
        model=model,
        target=manifest.target,
        weights=manifest.weights,
        mode=mode,
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        num_repeats=repeats,
        num_parameters=num_parameters(manifest.model),
        size_bytes=sum(f.size for name, f in manifest.files.items() if WEIGHTS_DIR in name),
        load_s=load_s,
        bandwidth_source=BYTES_PER_S if chip is None else chip.bandwidth.source,
        peak_operations_per_s=roofline.rates.operations,
        peak_operations_source=roofline.rates.source,
        machine=_machine(),
        rows=rows,
    )


def _roofline(bundle: Bundle) -> Roofline:
    """The bytes and operations of the bundle's steps; a chip's rates are its peaks."""
    profile = exported_profile(bundle)
    measured = rates(None) if profile.chip is None else _peaks(profile.chip)
    return Roofline(
        config=bundle.manifest.model,
        profile=profile,
        footprint=find_target(profile).footprint,
        rates=measured,
    )


def _peaks(chip: Chip) -> Rates:
    return Rates(
        bandwidth=chip.bandwidth.value, operations=chip.fp16.value, source=chip.fp16.source
    )


def _machine() -> Machine:
    return Machine(
        cpu=cpu_name(),
        num_cores=usable_threads(),
        memory_bytes=total_memory(),
        system=platform.platform(),
        packages={"python": platform.python_version(), **dict(_versions())},
    )


def _versions() -> Iterator[tuple[str, str]]:
    for package in PACKAGES:
        try:
            yield package, version(package)
        except PackageNotFoundError:  # a target's own, not installed where another one runs
            continue


def _rows(
    runner: Runner,
    cases: Sequence[Case],
    roofline: Roofline,
    mode: Mode,
    repeats: int,
    loading: int,
) -> Iterator[Row]:
    """One row per case; each batch size is warmed up first, by its longest prompt and answer.

    loading: bytes that were resident at most until the first case.
    """
    for batch_size in dict.fromkeys(case.batch_size for case in cases):
        batch = [case for case in cases if case.batch_size == batch_size]
        longest = max(batch, key=lambda case: case.rows)
        runner.warm_up(longest)
        for case in batch:
            chip = roofline.profile.chip
            bandwidth = read_bandwidth() if chip is None else roofline.rates.bandwidth
            restart_peak_memory()  # the arrays that the bandwidth was measured with do not count
            runs = [runner.run(case, case.output_tokens) for _ in range(repeats)]
            # Only normal mode needs the time of one token alone.
            ones = [runner.run(case, 1) for _ in range(repeats)] if mode == "normal" else []
            yield _row(case, runs, ones, roofline, bandwidth, max(loading, peak_memory()))


def _row(
    case: Case,
    runs: Sequence[TimedRun],
    ones: Sequence[TimedRun],
    roofline: Roofline,
    bandwidth: float,
    peak_bytes: int,
) -> Row:
    columns = _estimated(case, runs, ones) if ones else _clocked(runs)
    gaps = [MS * gap for run in runs for gap in run.gaps]
    context = case.input_tokens + case.output_tokens // 2
    step = roofline.step_call(context, case.batch_size)
    calls = roofline.prompt_calls(case.input_tokens)
    prompts = (
        case.batch_size * sum(num_bytes for num_bytes, _ in calls),
        case.batch_size * sum(operations for _, operations in calls),
    )
    first, after = columns["forward_first_ms"], columns["forward_next_ms"]
    return Row(
        batch_size=case.batch_size,
        input_tokens=case.input_tokens,
        output_tokens=case.output_tokens,
        ttft_ms=Spread.of([MS * run.ttft for run in runs]),
        tpot_ms=Spread.of([MS * run.tpot for run in runs]),
        itl_median_ms=float(np.median(gaps)),
        itl_p99_ms=float(np.percentile(gaps, 99)),
        response_s=Spread.of([run.response for run in runs]),
        tokenize_ms=Spread.of([MS * run.tokenize for run in runs]),
        sample_ms_per_token=Spread.of([MS * run.sample for run in runs]),
        detokenize_ms_per_token=Spread.of([MS * run.detokenize for run in runs]),
        peak_host_memory_bytes=peak_bytes,
        bandwidth_bytes_per_s=bandwidth,
        bytes_per_token=step[0] / case.batch_size,
        prefill=Reach.of(prompts, first.median, bandwidth),
        decode=Reach.of(step, after.median, bandwidth),
        **columns,
    )


def _clocked(runs: Sequence[TimedRun]) -> dict[str, Spread]:
    """Detail mode: clocks around every forward pass."""
    return {
        "forward_first_ms": Spread.of([MS * run.forward_first for run in runs]),
        "forward_next_ms": Spread.of([MS * run.forward_next for run in runs]),
        "pre_next_ms": Spread.of([MS * run.pre_next for run in runs]),
        "post_next_ms": Spread.of([MS * run.post_next for run in runs]),
    }


def _estimated(case: Case, runs: Sequence[TimedRun], ones: Sequence[TimedRun]) -> dict[str, Spread]:
    """Normal mode: from the time of one token and of all tokens; the rest counts as zero."""
    further = case.output_tokens - 1
    pairs = list(zip(ones, runs, strict=True))
    nothing = Spread.of([0.0] * len(runs))
    return {
        "forward_first_ms": Spread.of([MS * one.response for one in ones]),
        "forward_next_ms": Spread.of([MS * (r.response - o.response) / further for o, r in pairs]),
        "pre_next_ms": nothing,
        "post_next_ms": nothing,
    }
