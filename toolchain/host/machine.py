"""The machine that the toolchain runs on: what memory it lets us have, how fast it reads it."""

import platform
import resource
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from runtime.control_groups import group_files
from runtime.errors import UserError
from runtime.threads import usable_threads

__all__ = [
    "available_memory",
    "cpu_features",
    "cpu_name",
    "multiply_rate",
    "peak_memory",
    "read_bandwidth",
    "require_memory",
    "restart_peak_memory",
    "total_memory",
]

# Where a control group says its limit and its use: version 2, then version 1.
CGROUP_FILES = (
    ("/sys/fs/cgroup{}/memory.max", "/sys/fs/cgroup{}/memory.current"),
    (
        "/sys/fs/cgroup/memory{}/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory{}/memory.usage_in_bytes",
    ),
)
FEATURES = ("avx2", "avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm", "sve")
READ_BYTES = 1 << 28  # more than the caches hold
MULTIPLY_SIZE = 2048
REPEATS = 3
LIBRARY_BYTES = 0.75e9  # addresses that Python, numpy and torch map without using them


def cpu_name() -> str:
    """As the kernel says it; aarch64 kernels give the architecture alone."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def cpu_features() -> tuple[str, ...]:
    """What int8 products are made of, as the kernel names it."""
    words = set(Path("/proc/cpuinfo").read_text().split())
    return tuple(name for name in FEATURES if name in words)


def peak_memory() -> int:
    """Most bytes that this process has had resident, mapped files among them."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def restart_peak_memory() -> None:
    """Makes peak_memory count from now on; proc_pid_clear_refs(5)."""
    Path("/proc/self/clear_refs").write_text("5")


def total_memory() -> int:
    """Bytes of memory in the machine, or what the control group allows of it."""
    return min([_meminfo("MemTotal"), *(limit for limit, _ in _groups())])


def available_memory() -> int:
    """Bytes that may still be taken without swapping or being killed."""
    return min([_meminfo("MemAvailable"), *(max(0, limit - used) for limit, used in _groups())])


def require_memory(num_bytes: float, mapped_bytes: float, work: str) -> None:
    """Refuses work that the machine's memory, or a limit on it, is too small for.

    Args:
        num_bytes: memory that the work needs for itself.
        mapped_bytes: files that it maps besides, which count only for a limit on addresses.
        work: what it is, for the message.

    Raises:
        UserError: too little is free.
    """
    addresses, _ = resource.getrlimit(resource.RLIMIT_AS)
    limits = [("free memory", available_memory(), num_bytes)]
    if addresses != resource.RLIM_INFINITY:
        need = num_bytes + mapped_bytes + LIBRARY_BYTES
        limits.append(("address space (ulimit -v)", addresses, need))
    for name, have, need in limits:
        if have < need:
            raise UserError(
                f"too little {name} to {work}",
                got=f"{have / 1e9:.2f} GB",
                allowed=f"{need / 1e9:.2f} GB or more",
                next_step="close other programs or raise the limit",
            )


def read_bandwidth() -> float:
    """Bytes/s that all cores together read from memory; the best of a few measurements."""
    cores = usable_threads()
    arrays = [np.ones(READ_BYTES // 4 // cores, np.float32) for _ in range(cores)]
    with ThreadPoolExecutor(cores) as pool:
        best = float("inf")
        for _ in range(REPEATS):
            started = time.perf_counter()
            list(pool.map(np.max, arrays))
            best = min(best, time.perf_counter() - started)
    return sum(array.nbytes for array in arrays) / best


def multiply_rate() -> float:
    """Float32 operations/s of a matrix product on all cores; the best of a few measurements."""
    square = np.ones((MULTIPLY_SIZE, MULTIPLY_SIZE), np.float32)
    best = float("inf")
    for _ in range(REPEATS):
        started = time.perf_counter()
        with np.errstate(all="ignore"):  # kernels of aarch64 raise flags beside right products
            square @ square
        best = min(best, time.perf_counter() - started)
    return 2 * MULTIPLY_SIZE**3 / best


def _meminfo(key: str) -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def _groups() -> list[tuple[int, int]]:
    """(limit, use) of every control group above this process that has a limit."""
    found = []
    for limit_pattern, use_pattern in CGROUP_FILES:
        for limit_file, use_file in zip(
            group_files(limit_pattern), group_files(use_pattern), strict=True
        ):
            try:
                limit = limit_file.read_text().strip()
                used = int(use_file.read_text())
                cached = _page_cache(use_file.parent)
            except (OSError, ValueError, KeyError):  # no such group, or nothing to read in it
                continue
            if limit.isdecimal():
                found.append((int(limit), max(0, used - cached)))
    return found


def _page_cache(group: Path) -> int:
    """Bytes of files that count as used and that the kernel takes back first."""
    lines = (group / "memory.stat").read_text().splitlines()
    stat = dict(line.split() for line in lines)
    return int(stat.get("total_inactive_file", stat["inactive_file"]))  # version 1, version 2
