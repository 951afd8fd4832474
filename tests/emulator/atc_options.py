"""The command line of ATC: which options exist, which values they take, which exclude which.

Sources: ge, api/atc/cmd_flag_info.cc and docs/zh/user_guides/atc_tools/CLI_options.
"""

import os
import re
from collections.abc import Mapping, Sequence
from typing import Final

from tests.emulator.atc_errors import AtcError, inner_error

__all__ = ["UnknownFlagError", "check_environment", "parse_options"]

_GIVEN: Final[dict[str, str]] = {
    "mode": "0|1|3|5|6|7|30",
    "framework": "0|1|3|5",
    "soc_version": r"Ascend\w+",
    "input_format": "NCHW|NCDHW|ND|NHWC|HWCN|CHWN",  # narrowed for ONNX below
    "precision_mode_v2": "fp16|origin|cube_fp16in_fp32out|mixed_float16|mixed_bfloat16"
    "|mixed_hif8|cube_hif8",
    "precision_mode": "force_fp16|force_fp32|cube_fp16in_fp32out|allow_fp32_to_fp16"
    "|must_keep_origin_dtype|allow_mix_precision|allow_mix_precision_fp16"
    "|allow_mix_precision_bf16|allow_fp32_to_bf16",
    "external_weight": "0|1|2",
    "log": "debug|info|warning|error|null",
    "host_env_os": "linux|minios",
    "host_env_cpu": "x86_64|aarch64",
    "deterministic": "0|1",
    "op_compiler_cache_mode": "disable|enable|force",
    "tiling_schedule_optimize": "0|1",
}
# What is said of a value that is none of them, where it is not E10001: option_utils.cc.
_SWITCHES: Final = ("tiling_schedule_optimize",)
_FREE: Final = (
    "model",
    "output",
    "om",
    "json",
    "input_shape",
    "dynamic_dims",
    "op_compiler_cache_dir",
)
# Real options whose effect nothing here imitates: refused, so that no test believes in them.
_UNEMULATED: Final = frozenset(
    [
        "dynamic_batch_size",
        "dynamic_image_size",
        "input_shape_range",
        "shape_generalized_build_mode",
        "op_precision_mode",
        "op_select_implmode",
        "optypelist_for_implmode",
        "keep_dtype",
        "customize_dtypes",
        "modify_mixlist",
        "out_nodes",
        "output_type",
        "input_fp16_nodes",
        "buffer_optimize",
        "enable_small_channel",
        "deterministic_level",
        "disable_reuse_memory",
        "enable_single_stream",
        "topo_sorting_mode",
        "oo_level",
        "oo_constant_folding",
        "oo_dead_code_elimination",
        "jit_compile",
        "ac_parallel_enable",
        "static_model_ops_lower_limit",
        "is_weight_clip",
        "allow_hf32",
        "fusion_switch_file",
        "optimization_switch",
        "compression_optimize_conf",
        "virtual_type",
        "save_original_model",
        "quant_dumpable",
        "status_check",
        "sparsity",
        "enable_compress_weight",
        "enable_attr_compression",
        "op_debug_level",
        "debug_dir",
        "export_compile_stat",
        "check_report",
        "raw_ge_options",
        "auto_tune_mode",
        "insert_op_conf",
        "weight",
        "singleop",
        "check_result",
    ]
)


class UnknownFlagError(Exception):
    """The command line could not be read at all: ATC prints one line and no error code."""


def parse_options(arguments: Sequence[str]) -> dict[str, str]:
    """The options by name, all of them checked.

    Raises:
        UnknownFlagError: there is no such option, or its value is missing.
        AtcError: a value is bad, or options exclude each other.
    """
    options = _split(arguments)
    for name, value in options.items():
        if name in _UNEMULATED:
            raise inner_error(f"--{name} is a real option, but this emulator does not imitate it.")
        if not value:
            raise AtcError("E10004", f"Value for --{name} is empty.")
        pattern = _GIVEN.get(name)
        if pattern is not None and not re.fullmatch(pattern, value):
            if name in _SWITCHES:
                raise AtcError("E10006", f"Value {value} for parameter --{name} must be 0 or 1.")
            raise invalid(name, value, f"The value must be one of {pattern}.")
    if options.get("mode", "0") == "0":
        _check_compile(options)
    elif options["mode"] == "1":
        _require(options, "om", "json")
    else:
        raise inner_error(f"--mode={options['mode']} is not imitated by this emulator.")
    return options


def check_environment(environment: Mapping[str, str]) -> None:
    """Refuses numbers of compile processes out of range: ge, docs/zh/user_guides/env_vars.

    That ATC stops, and with this code, is a guess: the pages only give the range.
    """
    for name, limit in (("TE_PARALLEL_COMPILER", 32), ("MAX_COMPILE_CORE_NUMBER", 2**31)):
        value = environment.get(name, "1")
        if not value.isascii() or not value.isdigit() or not 1 <= int(value) <= limit:
            raise invalid(name, value, f"The value must be in [1, {limit}].")


def invalid(name: str, value: str, reason: str) -> AtcError:
    """The commonest complaint: E10001."""
    message = f"Value {value} for parameter {name} is invalid. Reason: {reason}"
    return AtcError("E10001", message, solution="Try again with a valid argument.")


def _split(arguments: Sequence[str]) -> dict[str, str]:
    # getopt_long takes `--key=value` and `--key value`; its abbreviations are refused here.
    options: dict[str, str] = {}
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if not argument.startswith("--"):
            raise UnknownFlagError(f"parameter '{argument}' is not an option")
        name, equals, value = argument.removeprefix("--").partition("=")
        if name not in _GIVEN and name not in _FREE and name not in _UNEMULATED:
            raise UnknownFlagError(f"unknown command line flag '{name}'")
        if not equals:
            if not rest:
                raise UnknownFlagError(f"flag '--{name}' is missing its argument")
            value = rest.pop(0)
        options[name] = value  # the last one wins, as with gflags
    return options


def _require(options: Mapping[str, str], *names: str) -> None:
    for name in names:
        if name not in options:
            raise AtcError("E10004", f"Value for --{name} is empty.")


def _check_compile(options: Mapping[str, str]) -> None:
    _require(options, "model", "framework", "output", "soc_version")
    if options["framework"] not in ("1", "5"):
        raise inner_error("only --framework=1 and 5 are imitated by this emulator.")
    _check_format(options)
    if "precision_mode" in options and "precision_mode_v2" in options:
        reason = "--precision_mode and --precision_mode_v2 exclude each other."
        raise invalid("--precision_mode_v2", options["precision_mode_v2"], reason)
    if "precision_mode" in options:
        raise inner_error("--precision_mode is not imitated by this emulator.")
    if options.get("external_weight") == "2":
        raise inner_error("--external_weight=2 is not imitated by this emulator.")
    model, output = options["model"], options["output"]
    if not os.path.isfile(model):
        raise invalid("--model", model, "The file does not exist.")
    if not os.path.basename(output):
        text = f"Path {output} for parameter --output does not include the file name."
        raise AtcError("E10022", text)
    precision = options.get("precision_mode_v2", "fp16")
    if options["soc_version"].startswith("Ascend310P") and "bfloat" in precision:
        raise invalid("--precision_mode_v2", precision, "The chip has no bfloat16.")
    if "dynamic_dims" in options:
        _check_gears(options)


def _check_format(options: Mapping[str, str]) -> None:
    if options["framework"] == "1":
        # --framework.md: another format than NCHW has no effect, and --input_shape has none; newer
        # sources heed it (omg.cc, CheckParamForAirInput), so nobody may count on either.
        if "input_shape" in options or "dynamic_dims" in options:
            raise inner_error("--input_shape of an .air is not imitated by this emulator.")
    elif options.get("input_format", "NCHW") not in ("NCHW", "NCDHW", "ND"):
        raise invalid("--input_format", options["input_format"], "ONNX takes NCHW, NCDHW or ND.")


def _check_gears(options: Mapping[str, str]) -> None:
    if options.get("input_format") != "ND":
        reason = "--dynamic_dims needs --input_format=ND."
        raise invalid("--input_format", options.get("input_format", "NCHW"), reason)
    if "-1" not in options.get("input_shape", ""):
        raise invalid("--dynamic_dims", options["dynamic_dims"], "No -1 in --input_shape.")
