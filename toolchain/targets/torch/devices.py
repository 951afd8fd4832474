"""The devices that torch programs are compiled for, as data."""

from collections.abc import Mapping
from dataclasses import dataclass

from profiles import Precision
from runtime.bundle.manifest import Backend, DType, FloatType

__all__ = ["BYTES", "DEVICES", "TorchDevice"]

BYTES: Mapping[DType, int] = {
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "int32": 4,
    "int8": 1,
    "uint8": 1,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchDevice:
    """A device.

    name: as torch spells it.
    backend: of the bundles.
    dtypes: what programs compute in and caches hold, by the weights; the first is the default.
    """

    name: str
    backend: Backend
    dtypes: Mapping[Precision, FloatType]


DEVICES = {
    "torch-cpu": TorchDevice(
        name="cpu",
        backend="torch",
        dtypes={
            "fp32": "float32",
            "fp16": "float16",
            "bf16": "bfloat16",
            "int8": "float32",
            "int4": "float32",
        },
    ),
    "torch-cuda": TorchDevice(
        name="cuda",
        backend="torch-cuda",
        dtypes={
            "fp16": "float16",
            "bf16": "bfloat16",
            "int8": "float16",
            "int4": "bfloat16",  # torch's int4 product takes nothing else there
        },
    ),
}
