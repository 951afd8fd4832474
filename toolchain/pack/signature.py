"""Signs a pack on the host; box/signature.py verifies it. cryptography is imported here alone."""

from collections.abc import Callable
from pathlib import Path

from toolchain.errors import PackError

__all__ = ["Sign", "signer"]

Sign = Callable[[bytes], bytes]


def signer(file: Path) -> Sign:
    """Signs with a private key, as `openssl genpkey -algorithm ed25519` writes it.

    Raises:
        PackError: it is no such key, or has a password.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(file.read_bytes(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _no_key(file, str(error)) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _no_key(file, type(key).__name__)
    sign: Sign = key.sign
    return sign


def _no_key(file: Path, got: str) -> PackError:
    return PackError(
        f"{file} is no private key to sign with",
        got=got,
        allowed="an Ed25519 key in PEM without a password",
        next_step=f"openssl genpkey -algorithm ed25519 -out {file.name}",
    )
