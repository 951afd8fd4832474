"""Whose kernels compute the products of a bundle, and attention over an int8 cache."""

from profiles import BITS, Profile
from runtime.kernels.build import LIBRARY
from runtime.kernels.layout import BLOCK_SIZES
from toolchain.errors import TargetError

__all__ = ["settle_kernels"]


def settle_kernels(profile: Profile) -> Profile:
    """The profile with the kernels that `auto` stands for: our own wherever they can compute.

    Raises:
        TargetError: our own are asked for and cannot.
    """
    hindrance = _hindrance(profile)
    if profile.kernels == "own" and hindrance is not None:
        raise hindrance
    chosen = "own" if profile.kernels != "onnxruntime" and hindrance is None else "onnxruntime"
    return profile.model_copy(update={"kernels": chosen})


def _hindrance(profile: Profile) -> TargetError | None:
    if profile.weights not in BITS:
        return TargetError(
            "kernels of our own are for quantized weights",
            got=f"weights {profile.weights}",
            allowed=", ".join(BITS),
        )
    missing = [size for size in profile.block_sizes if size not in BLOCK_SIZES]
    if missing:
        return TargetError(
            "kernels of our own have no such block_size",
            got=missing[0],
            allowed=", ".join(map(str, BLOCK_SIZES)),
        )
    if not LIBRARY.exists():
        return TargetError(
            "kernels of our own are not built",
            next_step="run `python -m runtime.kernels.build`, or give --kernels onnxruntime",
        )
    return None
