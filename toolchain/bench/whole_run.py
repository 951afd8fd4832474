"""All cases of all bundles, into files as they come, going on from where an earlier run ended."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

from runtime.bundle.reader import Bundle
from runtime.console import note
from toolchain.bench.grid import Case
from toolchain.bench.outputs import Outputs
from toolchain.bench.result import BenchResult, Mode
from toolchain.bench.run import measure
from toolchain.bench.setup import setup_of
from toolchain.console import FractionProgress

__all__ = ["Wanted", "run_all"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be measured; names, bundles and plans go together."""

    names: Sequence[str]
    bundles: Sequence[Bundle]
    plans: Sequence[Sequence[Case]]
    mode: Mode
    repeats: int

    @property
    def num_cases(self) -> int:
        """Of all bundles."""
        return sum(map(len, self.plans))

    def in_order(self, found: dict[str, BenchResult]) -> list[BenchResult]:
        """As the bundles were given."""
        return [found[name] for name in self.names if name in found]


def run_all(wanted: Wanted, outputs: Outputs) -> list[BenchResult]:
    """Measures what is not known yet; what is done is kept whenever it ends.

    Raises:
        TargetError: a bundle is not compiled.
        SessionError: a backend cannot be opened.
        UserError: a file cannot be written any more.
    """
    found = _taken_over(wanted, outputs)
    try:
        with FractionProgress() as progress:
            for name, bundle, cases in zip(wanted.names, wanted.bundles, wanted.plans, strict=True):
                _run_one(wanted, name, bundle, cases, found, outputs, progress)
    except KeyboardInterrupt:
        num_done = sum(len(result.rows) for result in found.values())
        rest = outputs.leave(wanted.in_order(found))
        note(f"stopped after {num_done} of {wanted.num_cases} cases{rest}")
        raise
    return wanted.in_order(found)


def _run_one(
    wanted: Wanted,
    name: str,
    bundle: Bundle,
    cases: Sequence[Case],
    found: dict[str, BenchResult],
    outputs: Outputs,
    progress: FractionProgress,
) -> None:
    """The cases of one bundle that `found` lacks."""
    earlier = found[name].rows if name in found else ()
    if len(earlier) == len(cases):
        return

    def tell(text: str, fraction: float) -> None:
        progress.step(f"{name}: {text}" if len(wanted.names) > 1 else text, fraction)

    steps = measure(
        bundle,
        cases,
        model=name,
        mode=wanted.mode,
        repeats=wanted.repeats,
        earlier=earlier,
        tell=tell,
    )
    with closing(steps):
        for result in steps:
            found[name] = result
            outputs.write(wanted.in_order(found))


def _taken_over(wanted: Wanted, outputs: Outputs) -> dict[str, BenchResult]:
    """What an unfinished run left, by name; a complete one is measured again."""
    found: dict[str, BenchResult] = {}
    for name, bundle, cases in zip(wanted.names, wanted.bundles, wanted.plans, strict=True):
        setup = setup_of(bundle, name, wanted.mode, wanted.repeats)
        earlier, words = outputs.earlier(setup, cases)
        if words:
            note(words)
        if earlier is not None:
            found[name] = earlier
    num_taken = sum(len(result.rows) for result in found.values())
    if num_taken == wanted.num_cases:
        return {}
    if num_taken:
        note(
            f"{num_taken} of {wanted.num_cases} cases are taken over from an unfinished run: "
            "bundle, machine and settings are the same"
        )
    return found
