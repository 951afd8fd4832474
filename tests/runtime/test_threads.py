"""As many threads as the control groups pay for, whatever the host has."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime import threads
from runtime.threads import usable_threads

Group = Callable[[str, str], None]


@pytest.fixture
def group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Group:
    """Writes a file of a control group /box below a host of eight cores."""

    def below(pattern: str) -> list[Path]:
        return [tmp_path / pattern.format(path).lstrip("/") for path in ("", "/box")]

    def write(path: str, text: str) -> None:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    monkeypatch.setattr(threads, "group_files", below)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return write


V2, V1 = "sys/fs/cgroup/box/cpu.max", "sys/fs/cgroup/cpu/box"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8),
        ({V2: "max 100000\n"}, 8),
        ({V2: "200000 100000\n"}, 2),
        ({V2: "290000 100000\n"}, 2),
        ({V2: "30000 100000\n"}, 1),
        ({V2: "1600000 100000\n"}, 8),
        ({V2: "400000 100000\n", "sys/fs/cgroup/cpu.max": "300000 100000\n"}, 3),
        ({f"{V1}/cpu.cfs_quota_us": "300000\n", f"{V1}/cpu.cfs_period_us": "100000\n"}, 3),
        ({f"{V1}/cpu.cfs_quota_us": "-1\n", f"{V1}/cpu.cfs_period_us": "100000\n"}, 8),
        ({f"{V1}/cpu.cfs_quota_us": "300000\n"}, 8),
        ({V2: "a word\n"}, 8),
    ],
)
def test_a_quota_bounds_the_threads(files: dict[str, str], expected: int, group: Group) -> None:
    for path, text in files.items():
        group(path, text)
    assert usable_threads() == expected


@pytest.mark.parametrize(
    ("value", "expected"), [("3", 3), ("12", 12), ("4,2", 4), ("0", 2), ("many", 2), ("", 2)]
)
def test_omp_num_threads_is_obeyed_where_it_is_a_number(
    value: str, expected: int, group: Group, monkeypatch: pytest.MonkeyPatch
) -> None:
    group(V2, "200000 100000\n")
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert usable_threads() == expected
