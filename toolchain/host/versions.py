"""Order of version texts as Huawei, GNU and Python packages write them."""

import re

__all__ = ["at_least", "release"]


def at_least(version: str, minimum: str) -> bool:
    """Whether a version is the minimum or newer. 8.5.RC1 and 8.5.0-beta.1 are older than 8.5.0."""
    found, wanted = _parts(version), _parts(minimum)
    length = max(len(found), len(wanted))
    return _padded(found, length) >= _padded(wanted, length)


def release(version: str) -> str:
    """Without what follows the release: 2.9.0.post2 and 2.9.0+cpu are 2.9.0."""
    return re.split(r"\.post|\+", version)[0]


def _parts(version: str) -> list[tuple[int, int]]:
    parts = []
    for word in re.findall(r"[a-z]*\d+|[a-z]+", version.lower().split("+")[0]):
        letters = word.rstrip("0123456789")
        # b060 is a build and post2 a later fix; rc3, t9 (test), alpha and beta precede a release
        is_number = letters in ("", "b", "post")
        parts.append((int(is_number), int(word[len(letters) :] or 0)))
    return parts


def _padded(parts: list[tuple[int, int]], length: int) -> list[tuple[int, int]]:
    return parts + [(1, 0)] * (length - len(parts))
