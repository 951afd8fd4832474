"""The runtime's own tests in a box."""

import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from tests.aarch64.box import BUNDLES, Box

__all__ = ["LEFT_OUT", "SUITES", "WORKERS", "Outcome", "run_suites"]

SUITES = os.environ.get("SUITES", "tests/runtime tests/box").split()
WORKERS = int(os.environ.get("WORKERS", "2"))
PATIENCE = "600"  # seconds; see tests/serving.py
REPORT = Path("/tmp/report.xml")

# What an emulated box cannot do, and why.
NO_ADVICE = "QEMU gives no advice about memory to the system"
MEMORY = "tests/runtime/sessions/test_cache_memory.py"
LEFT_OUT = {
    "tests/runtime/bundle/test_huge_pages.py::test_what_cannot_be_read_is_an_error_and_no_signal": (
        NO_ADVICE
    ),
    f"{MEMORY}::test_the_first_rows_of_a_sequence_take_little_more_than_themselves": NO_ADVICE,
    f"{MEMORY}::test_a_slot_that_is_read_much_may_get_huge_pages_and_no_other": NO_ADVICE,
    f"{MEMORY}::test_a_session_asks_for_huge_pages_once_a_slot_is_a_quarter_full": NO_ADVICE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Of a run of tests.

    skipped: reason -> tests.
    seconds: of the whole run.
    """

    passed: int
    failed: tuple[str, ...]
    skipped: dict[str, int]
    seconds: float


def run_suites(box: Box, suites: Sequence[str]) -> Outcome:
    """Runs tests on the bundles at BUNDLES; pytest's own words go to stderr."""
    options = ("-q", "-p", "no:cacheprovider", "-n", str(WORKERS), "--dist", "loadfile")
    without = [f"--deselect={name}" for name in LEFT_OUT]
    command = ("pytest", *options, f"--junitxml={REPORT}", *without, *suites)
    variables = {"TEST_BUNDLES": str(BUNDLES), "PATIENCE": PATIENCE}
    box.run(*command, check=False, stdout=sys.stderr, **variables)
    return _read(box.place(REPORT))


def _read(report: Path) -> Outcome:
    root = ElementTree.parse(report).getroot()
    passed, failed, skipped = 0, [], Counter[str]()
    for case in root.iter("testcase"):
        reasons = [each.get("message", "") for each in case.iter("skipped")]
        if reasons:
            skipped[reasons[0]] += 1
        elif case.find("failure") is not None or case.find("error") is not None:
            failed.append(f"{case.get('classname')}::{case.get('name')}")
        else:
            passed += 1
    return Outcome(
        passed=passed,
        failed=tuple(failed),
        skipped=dict(skipped),
        seconds=float(root[0].get("time", "nan")),
    )
