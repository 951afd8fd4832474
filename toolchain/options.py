"""Options that several commands have, made once. A test holds that the choices are complete."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from runtime.commands.options import AsJson, JsonFile

__all__ = [
    "APIKeyFile",
    "AsJson",
    "CacheOption",
    "CalibrateOption",
    "HostCPUOption",
    "JsonFile",
    "KernelsOption",
    "LoraOption",
    "ProfileOption",
    "RopeOption",
    "TargetOption",
    "ViaOption",
    "WeightsOption",
]

TargetName = Literal[
    "cpu", "torch-cpu", "torch-cuda", "310p1", "310p3", "310b1", "910b1", "910b2", "910b3", "910b4"
]


def _profiles(incomplete: str) -> list[str]:
    """Names of the shipped profiles, for the completion of a shell."""
    from profiles import profile_names

    return [name for name in profile_names() if name.startswith(incomplete)]


ProfileOption = Annotated[
    str,
    typer.Option(help="Name of a profile, or path of a .toml file.", autocompletion=_profiles),
]
RopeOption = Annotated[
    str | None,
    typer.Option(
        help="Scale positions: ntk:ALPHA, ntk:auto, linear:FACTOR or yarn:FACTOR. "
        "Default: as config.json says."
    ),
]
TargetOption = Annotated[
    TargetName | None,
    typer.Option(help="cpu, torch-cpu, torch-cuda, or the chip. Default: the profile's."),
]
WeightsOption = Annotated[
    Literal["fp32", "fp16", "bf16", "int8", "int4"] | None,
    typer.Option(help="Precision of the weights. Default: the profile's."),
]
CacheOption = Annotated[
    Literal["float", "int8"] | None,
    typer.Option(help="Precision of the cache. Default: the profile's."),
]
CalibrateOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Round the weights by what the layers are given on these texts: plain text, lists of "
        "token ids in a .json, or builtin.",
    ),
]
KernelsOption = Annotated[
    Literal["own", "onnxruntime"] | None,
    typer.Option(help="What multiplies on a CPU. Default: own where they are built."),
]
LoraOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR", help="Adapter of PEFT (LoRA) that is merged into the model's weights."
    ),
]
ViaOption = Annotated[
    Literal["air", "onnx"] | None,
    typer.Option(
        help="Through Huawei's torchair (air) or ONNX. Default: air for a chip that torchair knows."
    ),
]
HostCPUOption = Annotated[
    Literal["x86_64", "aarch64"] | None,
    typer.Option(help="CPU of the box, if it is not this host's."),
]
APIKeyFile = Annotated[
    Path | None,
    typer.Option(help="File with the key. Default: the environment's TOOLCHAIN_API_KEY."),
]
