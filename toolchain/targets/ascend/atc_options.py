"""THE TABLE of ATC's options that are used, with the values that each takes.

Source: ge, docs/zh/user_guides/atc_tools/CLI_options, and api/atc of the same repository.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from toolchain.errors import TargetError

__all__ = ["OPTIONS", "AtcOption", "option_list", "require_plain"]

NUMBER = r"[1-9]\d*"
DIMS = rf"(-1|{NUMBER})(,(-1|{NUMBER}))*"
# ge, base/common/util.cc: the characters of a path, checked after links are followed.
PATH = "[A-Za-z0-9._/\u4e00-\u9fa5-]+"


@dataclass(frozen=True, slots=True, kw_only=True)
class AtcOption:
    """One option.

    values: a pattern that the whole value matches.
    meaning: what we ask for with it.
    """

    values: str
    meaning: str


OPTIONS: dict[str, AtcOption] = {
    "mode": AtcOption(values="1", meaning="1: print an OM as JSON; without it: compile"),
    "om": AtcOption(values=PATH, meaning="OM to print"),
    "json": AtcOption(values=PATH, meaning="file to print it to"),
    "framework": AtcOption(values="1|5", meaning="1: Ascend IR (.air); 5: ONNX"),
    "model": AtcOption(values=PATH, meaning="file to compile; its weights lie beside it"),
    "output": AtcOption(values=PATH, meaning="OM without .om; weight/ comes beside it"),
    "soc_version": AtcOption(values=r"Ascend(310P|310B|910B)\d", meaning="chip"),
    "input_format": AtcOption(values="ND", meaning="no layout is implied"),
    "input_shape": AtcOption(
        values=rf"[^:;]+:{DIMS}(;[^:;]+:{DIMS})*", meaning="shape of every input; -1: by gear"
    ),
    "dynamic_dims": AtcOption(
        values=rf"{NUMBER}(,{NUMBER})*(;{NUMBER}(,{NUMBER})*){{1,99}}",
        meaning="2 to 100 gears: numbers for the -1 of input_shape, in order",
    ),
    "tiling_schedule_optimize": AtcOption(
        values="1", meaning="1: attention by lengths is planned on the chip; .air only"
    ),
    "precision_mode_v2": AtcOption(
        values="origin", meaning="compute in the graph's types: float32 islands stay"
    ),
    # aclnnWeightQuantBatchMatmulV2 does not repeat its results by default, on A2 and on 310P:
    # ops-nn, matmul/weight_quant_batch_matmul_v2/docs.
    "deterministic": AtcOption(
        values="1", meaning="1: the same bits in every run; with int8 weights only"
    ),
    "external_weight": AtcOption(
        values="1", meaning="1: every weight in a file named by the hash of its bytes"
    ),
    "op_compiler_cache_mode": AtcOption(values="enable", meaning="keep compiled kernels"),
    "op_compiler_cache_dir": AtcOption(values=PATH, meaning="where"),
    "log": AtcOption(values="error", meaning="what goes to the log"),
    "host_env_os": AtcOption(values="linux", meaning="system of the box; cross-compiling only"),
    "host_env_cpu": AtcOption(
        values="x86_64|aarch64", meaning="CPU of the box; cross-compiling only"
    ),
}


def option_list(options: Mapping[str, str]) -> list[str]:
    """--name=value for each.

    Raises:
        KeyError: an option that the table has not.
        ValueError: a value that it does not take.
    """
    for name, value in options.items():
        if not re.fullmatch(OPTIONS[name].values, value):
            raise ValueError(f"atc --{name} does not take {value!r}")
    return [f"--{name}={value}" for name, value in options.items()]


def require_plain(path: Path, what: str) -> None:
    """Refuses a path that ATC does not take.

    Raises:
        TargetError: names the character.
    """
    for character in str(path):
        if not re.fullmatch(PATH, character):
            raise TargetError(
                f"atc does not take a path with {character!r} in it",
                got=f"{what}: {path}",
                allowed="letters, digits, Chinese, and . _ - /",
                next_step="choose another",
            )
