"""Whether a pack is of the one whose public key the box has: Ed25519 over SHA256SUMS, by openssl.

openssl 3 is what boxes have already, reads the keys that it makes itself, and can be run by hand.
"""

import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from toolchain.pack.box.archive import SIGNATURE, SUMS
from toolchain.pack.box.errors import BoxError

__all__ = ["verify"]


def verify(listed: bytes, signature: bytes | None, key: Path | None) -> None:
    """Passes a signed pack with its maker's key, and an unsigned one where no key is given.

    Args:
        listed: SHA256SUMS.
        signature: of that, in a signed pack.
        key: file of a public key, as `openssl pkey -pubout` writes it.

    Raises:
        BoxError: anything else.
    """
    if key is None:
        if signature is not None:
            raise BoxError("the pack is signed", next_step="give its maker's key: --verify KEY")
        return
    if not key.is_file():
        raise BoxError(f"no key at {key}", next_step="copy its maker's public key to the box")
    if signature is None:
        raise BoxError(
            "the pack is not signed",
            allowed=f"packs that {key} verifies",
            next_step="ask its maker for one of `toolchain pack --sign`",
        )
    with TemporaryDirectory() as directory:
        for name, data in ((SUMS, listed), (SIGNATURE, signature)):
            Path(directory, name).write_bytes(data)
        _run_openssl(Path(directory), key.absolute())


def _run_openssl(directory: Path, key: Path) -> None:
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", str(key)]
    command += ["-rawin", "-in", SUMS, "-sigfile", SIGNATURE]
    try:
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise BoxError(
            "no openssl on this box", next_step="install openssl 3, which verifies signatures"
        ) from error
    if done.returncode:
        said = (done.stdout.splitlines() + done.stderr.splitlines())[:1]
        raise BoxError(
            f"the pack is not signed with {key}",
            got=" ".join(said),
            next_step="do not install it: ask its maker; openssl must be version 3 or later",
        )
