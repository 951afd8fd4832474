"""How many threads may compute at once.

More threads than a control group pays for are slower than fewer: its scheduler stops them all
for the rest of each period.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from runtime.control_groups import group_files

__all__ = ["usable_threads"]


def usable_threads() -> int:
    """OMP_NUM_THREADS where it is a number, else the cores that this process may use and pay for.

    Those are the cores of its affinity, or the least quota of its control groups, rounded down to
    at least one.
    """
    asked = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if asked.isdecimal() and int(asked) > 0:
        return int(asked)
    return max(1, min([len(os.sched_getaffinity(0)), *map(int, _quotas())]))


def _quotas() -> Iterator[float]:
    """Cores that the control groups pay for: version 2, then version 1."""
    for file in group_files("/sys/fs/cgroup{}/cpu.max"):
        yield from _cores(file)
    for controller in ("cpu", "cpu,cpuacct"):
        for file in group_files(f"/sys/fs/cgroup/{controller}{{}}/cpu.cfs_quota_us"):
            yield from _cores(file, file.with_name("cpu.cfs_period_us"))


def _cores(*files: Path) -> Iterator[float]:
    """Quota over period in microseconds, of one file with both or of two; none without a limit."""
    try:
        quota, period = (int(word) for file in files for word in file.read_text().split())
    except (OSError, ValueError):  # no such group, or "max"
        return
    if quota > 0 and period > 0:
        yield quota / period
