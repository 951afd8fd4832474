"""API keys: who may ask."""

import hashlib
import secrets
from pathlib import Path

from runtime.errors import ParameterError
from runtime.json_file import read_file

__all__ = ["MIN_LENGTH", "Keys", "read_keys"]

MIN_LENGTH = 16  # characters; `openssl rand -hex 32` gives 64
MAX_BYTES = 1 << 16


class Keys:
    """The keys of a server, as hashes.

    Args:
        keys: none for a server that asks for none.
    """

    def __init__(self, keys: list[bytes]) -> None:
        self._hashes = [hashlib.sha256(key).digest() for key in keys]

    @property
    def are_needed(self) -> bool:
        """Whether there are any."""
        return bool(self._hashes)

    def admit(self, authorization: bytes | None) -> bool:
        """Whether a header `Authorization: Bearer KEY` is good; every key is compared."""
        if not self.are_needed:
            return True
        scheme, _, key = (authorization or b"").partition(b" ")
        given = hashlib.sha256(key.strip(b" ")).digest()
        matches = [secrets.compare_digest(given, each) for each in self._hashes]
        return any(matches) and scheme.lower() == b"bearer"


def read_keys(file: Path | None) -> Keys:
    """The keys of a file: one a line; blank lines and those that begin with # are passed over.

    Raises:
        ParameterError: no such file, no key in it, or a line that cannot be a key.
    """
    if file is None:
        return Keys([])
    keys = []
    for number, line in enumerate(read_file(file, ParameterError, MAX_BYTES).splitlines(), 1):
        key = line.strip()
        if not key or key.startswith(b"#"):
            continue
        if len(key) < MIN_LENGTH or not all(33 <= byte <= 126 for byte in key):
            raise ParameterError(
                f"line {number} of {file} is no key",
                got=f"{len(key)} bytes",
                allowed=f"{MIN_LENGTH} or more printable ASCII characters without spaces",
                next_step="make one with: openssl rand -hex 32",
                param="api_key_file",
            )
        keys.append(key)
    if not keys:
        raise ParameterError(
            f"{file} has no key",
            next_step="make one with: openssl rand -hex 32",
            param="api_key_file",
        )
    return Keys(keys)
