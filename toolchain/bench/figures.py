"""The figures of a case from its timed runs."""

from collections.abc import Sequence

import numpy as np

from toolchain.bench.grid import Case
from toolchain.bench.measure import TimedRun
from toolchain.bench.result import Reach, Row, Spread
from toolchain.plan.roofline import Roofline

__all__ = ["make_row"]

MS = 1e3


def make_row(
    case: Case,
    runs: Sequence[TimedRun],
    ones: Sequence[TimedRun],
    roofline: Roofline,
    bandwidth: float,
    peak_bytes: int,
) -> Row:
    """One row of a result.

    Args:
        case: what was run.
        runs: of the whole case.
        ones: of one token alone; none in detail mode.
        roofline: the bytes and operations of its steps.
        bandwidth: in bytes/s, measured just before.
        peak_bytes: of resident memory.
    """
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
