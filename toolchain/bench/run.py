"""A bundle and cases in, a Result out, case by case: warm-up, repeats, and what the sizes say."""

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime

from profiles import Chip, exported_profile
from runtime.bundle.reader import WEIGHTS_DIR, Bundle
from runtime.sessions import open_session
from runtime.text.from_bundle import open_tokenizer
from runtime.timing import now
from toolchain.bench.figures import make_row
from toolchain.bench.grid import Case
from toolchain.bench.measure import Runner
from toolchain.bench.pace import Pace
from toolchain.bench.result import BenchResult, Mode, Row
from toolchain.bench.setup import setup_of
from toolchain.bench.timed_session import TimedSession
from toolchain.costs.rates import Rates, host_rates
from toolchain.costs.sizes import num_parameters
from toolchain.errors import TargetError
from toolchain.host.machine import peak_memory, read_bandwidth, restart_peak_memory
from toolchain.plan.roofline import Roofline
from toolchain.targets import find_target

__all__ = ["Tell", "bench", "check_compiled", "measure"]

BYTES_PER_S = "measured on this machine before every case: all cores read float32"
Tell = Callable[[str, float], None]  # what is being done, and the fraction of it all that is done


def bench(
    bundle: Bundle, cases: Sequence[Case], *, model: str, mode: Mode, repeats: int
) -> BenchResult:
    """Measures a compiled bundle; see `measure`."""
    *_, result = measure(bundle, cases, model=model, mode=mode, repeats=repeats)
    return result


def check_compiled(bundle: Bundle) -> None:
    """Refuses what cannot be measured.

    Raises:
        TargetError: the bundle is not compiled.
    """
    if bundle.manifest.stage != "compiled":
        raise TargetError(
            f"{bundle.path} is not compiled", next_step="run `toolchain compile` on it first"
        )


def measure(
    bundle: Bundle,
    cases: Sequence[Case],
    *,
    model: str,
    mode: Mode,
    repeats: int,
    earlier: Sequence[Row] = (),
    tell: Tell = lambda text, done: None,
) -> Generator[BenchResult, None, None]:
    """Measures a compiled bundle; yields the result so far after each case.

    Args:
        bundle: what is measured.
        cases: that are wanted, one at least not among `earlier`.
        model: its name in tables.
        mode: where the clocks sit.
        repeats: timed runs of each case.
        earlier: rows of these cases that need not be measured again.
        tell: told what is being done.

    Raises:
        TargetError: the bundle is not compiled.
        SessionError: its backend cannot be opened.
    """
    check_compiled(bundle)
    roofline = _roofline(bundle)
    chip = roofline.profile.chip
    known = {row.case: row for row in earlier}
    wanted = [case for case in cases if case not in known]
    restart_peak_memory()  # measuring the bandwidth took some
    started = now()
    with closing(TimedSession(open_session(bundle))) as session:
        runner = Runner(session, open_tokenizer(bundle))
        for case in wanted:
            runner.prepare(case)
        head = BenchResult(
            **dict(setup_of(bundle, model, mode, repeats)),
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            num_parameters=num_parameters(bundle.manifest.model),
            size_bytes=sum(f.size for n, f in bundle.manifest.files.items() if WEIGHTS_DIR in n),
            load_s=now() - started,
            bandwidth_source=BYTES_PER_S if chip is None else chip.bandwidth.source,
            peak_operations_per_s=roofline.rates.operations,
            peak_operations_source=roofline.rates.source,
            rows=(),
        )
        pace = Pace(wanted, repeats, mode, len(known))
        for row in _rows(runner, wanted, roofline, pace, tell):
            known[row.case] = row
            rows = tuple(known[case] for case in cases if case in known)
            yield head.model_copy(update={"rows": rows})


def _roofline(bundle: Bundle) -> Roofline:
    """The bytes and operations of the bundle's steps; a chip's rates are its peaks."""
    profile = exported_profile(bundle)
    measured = host_rates() if profile.chip is None else _peaks(profile.chip)
    return Roofline(
        config=bundle.manifest.model,
        profile=profile,
        footprint=find_target(profile).footprint,
        rates=measured,
        costs={graph.spec: graph.cost for graph in bundle.manifest.every_graph},
    )


def _peaks(chip: Chip) -> Rates:
    return Rates(
        bandwidth=chip.bandwidth.value, operations=chip.fp16.value, source=chip.fp16.source
    )


def _rows(
    runner: Runner, cases: Sequence[Case], roofline: Roofline, pace: Pace, tell: Tell
) -> Iterator[Row]:
    """One row per case; each batch size is warmed up first, by its longest prompt and answer."""
    chip, loading = roofline.profile.chip, peak_memory()
    for batch_size in dict.fromkeys(case.batch_size for case in cases):
        batch = [case for case in cases if case.batch_size == batch_size]
        longest = max(batch, key=lambda case: case.rows)
        tell(*pace.warming_up(longest))
        pace.learn(longest, runner.warm_up(longest))
        for case in batch:
            tell(*pace.measuring(case))
            bandwidth = read_bandwidth() if chip is None else roofline.rates.bandwidth
            restart_peak_memory()  # the arrays that the bandwidth was measured with do not count
            runs = [runner.run(case, case.output_tokens) for _ in range(pace.repeats)]
            # Only normal mode needs the time of one token alone.
            ones = [runner.run(case, 1) for _ in range(pace.repeats if pace.ones else 0)]
            pace.learn(case, runs[-1])
            yield make_row(case, runs, ones, roofline, bandwidth, max(loading, peak_memory()))
