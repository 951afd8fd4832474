"""torchair out of an unzipped wheel of torch_npu, without torch_npu, CANN or a library of theirs.

Nothing of the wheel is installed. Its one module in C, which would call CANN, is stood in for by
what the way to an .air asks of it.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = ["load_torchair"]

FOLDER = "torch_npu/dynamo"  # of the package torchair in the wheel
NATIVE = "torchair.core._torchair"


class _Graph:
    """The base class of torchair's graphs."""

    def __init__(self, name: str) -> None:
        self.name = name


class _DataTypes:
    """Names of types, each standing for itself."""

    def __getattr__(self, name: str) -> str:
        return name


def load_torchair(wheel: Path, export: Callable[[bytes, Mapping[str, str]], None]) -> Any:
    """Imports torchair; for a process that does nothing else.

    Args:
        wheel: where it was unzipped.
        export: given each model as the bytes of a ModelDef.
    """
    native = ModuleType(NATIVE)
    vars(native).update(
        TorchNpuGraphBase=_Graph,
        TorchDataType=_DataTypes(),
        InitializeGraphEngine=lambda options: None,
        FinalizeGraphEngine=lambda: None,
        check_cann_compat=lambda *_: "",
        get_registered_ir_def=lambda _: ("undefined", [], [], []),
        as_torch_tensors=lambda *_: (0, []),
        export=export,
    )
    sys.modules[NATIVE] = native
    sys.path.insert(0, str(wheel / FOLDER))
    import torchair  # type: ignore[import-not-found, unused-ignore]

    return torchair
