"""Where a server is, and the key that it asks for.

A key comes from a file or from the environment: other users of a computer can read command lines.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from runtime.errors import ParameterError
from runtime.json_file import read_file

__all__ = ["KEY_VARIABLE", "Address", "read_address"]

KEY_VARIABLE = "TOOLCHAIN_API_KEY"
MAX_KEY_FILE = 1 << 16  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A server.

    root: its URL, without /v1 and without a slash at the end.
    timeout: seconds that it may be silent.
    key: "" for none.
    """

    root: str
    timeout: float
    key: str = field(default="", repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """Headers of every request."""
        return {"Authorization": f"Bearer {self.key}"} if self.key else {}


def read_address(url: str, key_file: Path | None, timeout: float) -> Address:
    """The address that a URL is, with the key of the file, else that of the environment.

    Raises:
        ParameterError: no URL of a server, or no key in the file.
    """
    key = os.environ.get(KEY_VARIABLE, "") if key_file is None else _first_line(key_file)
    if not all(33 <= ord(character) <= 126 for character in key):
        raise ParameterError(
            "the API key has other characters than printable ASCII",
            next_step=f"look at {key_file or KEY_VARIABLE}",
            param="api_key_file",
        )
    return Address(root=_root(url), timeout=timeout, key=key)


def _root(url: str) -> str:
    try:
        parts = urlsplit(url)
        is_server = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_server = False
    if not is_server or parts.query or parts.fragment:
        raise ParameterError(
            "no address of a server",
            got=url[:100],
            allowed="http://HOST:PORT or https://HOST, with or without /v1",
            param="url",
        )
    if parts.username is not None:
        raise ParameterError(
            "a user name or a password in the address can be read by others",
            next_step=f"set {KEY_VARIABLE}, or give --api-key-file",
            param="url",
        )
    return url.rstrip("/").removesuffix("/v1").rstrip("/")


def _first_line(file: Path) -> str:
    lines = read_file(file, ParameterError, MAX_KEY_FILE).decode("utf-8", "replace").splitlines()
    keys = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not keys:
        raise ParameterError(f"{file} has no key", param="api_key_file")
    return keys[0]
