"""What ATC and a chip refuse, checked before ATC is started: one rule per function, in a list."""

import json
from collections.abc import Iterator
from functools import cache
from importlib.resources import files

import onnx_ir as ir

from toolchain.errors import TargetError
from toolchain.targets.ascend.chips import AscendChip
from toolchain.targets.ascend.rules.kernel_rules import KERNEL_RULES
from toolchain.targets.ascend.rules.rule import FLOATS, Problem, Rule, node_name, values

__all__ = ["RULES", "check_model"]

MIN_OPSET, MAX_OPSET = 8, 18  # other versions of the standard have no parser
MAX_RANK = 8
# Types that the parser and every chip take; ATC lists more, which no graph here has.
COMMON_TYPES = {
    *FLOATS,
    ir.DataType.INT8,
    ir.DataType.UINT8,
    ir.DataType.INT32,
    ir.DataType.INT64,
    ir.DataType.BOOL,
}


@cache
def registered() -> dict[str, list[int]]:
    """Operator -> versions with a parser: REGISTER_CUSTOM_OP in ge, ops-nn, ops-math and others."""
    file = files("toolchain.targets.ascend.rules") / "atc_onnx_ops.json"
    table: dict[str, list[int]] = json.loads(file.read_text())
    return table


def opset(model: ir.Model, _: AscendChip) -> Iterator[Problem]:
    """ATC looks operators up by the version that the model imports, with no older one instead."""
    version = model.opset_imports.get("", 0)
    if not MIN_OPSET <= version <= MAX_OPSET:
        yield Problem("opset", str(version), f"{MIN_OPSET} to {MAX_OPSET}")


def ends(model: ir.Model, _: AscendChip) -> Iterator[Problem]:
    """E16001: a graph without an input or an output."""
    for what, found in (("inputs", model.graph.inputs), ("outputs", model.graph.outputs)):
        if not found:
            yield Problem(what, "none", "one or more")


def operators(model: ir.Model, _: AscendChip) -> Iterator[Problem]:
    """E16002: the key domain::version::type is not in the table."""
    for node in model.graph:
        version = model.opset_imports.get(node.domain)
        key = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
        versions = registered().get(key, [])
        if version not in versions:
            got = f"{node.domain or 'ai.onnx'}::{version}::{node.op_type}"
            allowed = ", ".join(map(str, versions)) or "no version of it"
            yield Problem(node_name(node), got, allowed)


def types(model: ir.Model, chip: AscendChip) -> Iterator[Problem]:
    """bfloat16 is not on every chip."""
    allowed = COMMON_TYPES | ({ir.DataType.BFLOAT16} if chip.bfloat16 else set())
    names = ", ".join(sorted(dtype.name for dtype in allowed))
    for value in values(model.graph):
        if value.dtype is not None and value.dtype not in allowed:
            yield Problem(f"value {value.name}", value.dtype.name, names)


def shapes(model: ir.Model, _: AscendChip) -> Iterator[Problem]:
    """Dimensions are numbers, and not too many."""
    for value in values(model.graph):
        if value.shape is None or not value.shape.is_static():
            yield Problem(f"value {value.name}", str(value.shape), "static dimensions")
        elif value.shape.rank() > MAX_RANK:
            got = f"{value.shape.rank()} dimensions"
            yield Problem(f"value {value.name}", got, f"up to {MAX_RANK}")


def products(model: ir.Model, chip: AscendChip) -> Iterator[Problem]:
    """With precision_mode_v2=origin a product that the cube cores lack falls to the AI CPU."""
    allowed = FLOATS if chip.float32_matmul else FLOATS[:1]
    names = ", ".join(dtype.name for dtype in allowed)
    for node in model.graph:
        if node.op_type in ("MatMul", "Gemm"):
            for value in node.inputs[:2]:
                if value is not None and value.dtype not in allowed:
                    yield Problem(node_name(node), str(value.dtype), names)


RULES = (
    Rule("the opset has parsers", opset),
    Rule("the graph has inputs and outputs", ends),
    Rule("every operator is registered", operators),
    Rule("every type exists on the chip", types),
    Rule("every shape is static", shapes),
    Rule("products are of types that the cube cores multiply", products),
    *KERNEL_RULES,
)


def check_model(model: ir.Model, chip: AscendChip, graph: str) -> None:
    """Refuses a graph that breaks a rule.

    Raises:
        TargetError: names the graph, the node and the rule.
    """
    for rule in RULES:
        for problem in rule.problems(model, chip):
            raise TargetError(
                f"{graph}: {problem.where} breaks a rule of {chip.soc_name}: {rule.name}",
                got=problem.got,
                allowed=problem.allowed,
                next_step="disable the pass that makes it with --without, or report it",
            )
