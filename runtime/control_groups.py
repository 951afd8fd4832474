"""The control groups of this process, which may allow it less than the host has."""

from pathlib import Path, PurePath

__all__ = ["group_files"]


def group_files(pattern: str) -> list[Path]:
    """A file of every control group above this process, whether it exists or not.

    Args:
        pattern: its path with {} for the group, such as "/sys/fs/cgroup{}/cpu.max".
    """
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:  # a kernel without control groups
        return []
    own = [PurePath(line.split(":", 2)[2]) for line in lines]
    groups = {str(group).rstrip("/") for path in own for group in (path, *path.parents)}
    return [Path(pattern.format(group)) for group in sorted(groups)]
