"""Rules about the chip's own kernels, those of the domain npu."""

from collections.abc import Iterator

import onnx_ir as ir

from toolchain.targets.ascend.chips import AscendChip
from toolchain.targets.ascend.rules.rule import FLOATS, Problem, Rule, dims, given, node_name

__all__ = ["ABSENT", "KERNEL_RULES", "ROTATED_MULTIPLE"]

MAX_MATRIX = 65_535  # rows and columns of a quantised weight
GROUP_MULTIPLE = 32
MIN_NORM_BYTES = 32  # of a row; op-plugin, npu_rms_norm on the 310P
MASKED_MULTIPLE = 128
MAX_ROTATED_HEADS = 1000  # op-plugin, npu_rotary_mul; and 1,024 that a table is spread over
ROTATED_MULTIPLE = 64  # of the size of a head; CANN 7.0, page of RotaryMul
# Kernels that a series lacks: tables of products in ops-nn, ops-transformer and op-plugin. Those of
# 310B name neither the norm nor the rotation.
ABSENT = {
    "310p": {"NPURotaryPositionEmbedding", "NPUFlashAttention"},
    "310b": {"NPUFlashAttention", "WeightQuantBatchMatmulV2", "NPURmsNorm", "NPURotaryMul"},
    "910b": set[str](),
}


def present(model: ir.Model, chip: AscendChip) -> Iterator[Problem]:
    """The series has the kernel."""
    for node in model.graph:
        if node.op_type in ABSENT[chip.series]:
            yield Problem(node_name(node), node.op_type, f"no such kernel on {chip.soc_name}")


def weight_quant(model: ir.Model, chip: AscendChip) -> Iterator[Problem]:
    """Sizes and types of aclnnWeightQuantBatchMatmulV2, the same on every series or stricter."""
    for node in model.graph:
        if node.op_type == "WeightQuantBatchMatmulV2":
            for what, got, fits, allowed in _weight_quant_facts(node, chip):
                if not fits:
                    yield Problem(f"{what} of {node_name(node)}", got, allowed)


def _weight_quant_facts(node: ir.Node, chip: AscendChip) -> Iterator[tuple[str, str, bool, str]]:
    x, weight, scale = (given(node, i) for i in range(3))
    group = node.attributes.get_int("antiquant_group_size", 0)
    half, levels = FLOATS[0], (weight.dtype.name if weight.dtype else "none").lower()
    x_fits = x.dtype == half and len(dims(x)) == 2
    yield "x", f"{x.dtype} {x.shape}", x_fits, "FLOAT16 (m, k)"
    yield "weight", levels, levels in chip.weight_quant, ", ".join(chip.weight_quant)
    inputs, outputs = dims(weight)[-2:]
    largest = max(inputs, outputs)
    yield "k, n", f"{inputs}, {outputs}", largest <= MAX_MATRIX, f"up to {MAX_MATRIX}"
    group_fits = group == 0 or (group % GROUP_MULTIPLE == 0 and GROUP_MULTIPLE <= group < inputs)
    allowed = f"0, or a multiple of {GROUP_MULTIPLE} below {inputs}"
    yield "antiquant_group_size", str(group), group_fits, allowed
    producer = weight.producer()
    turned = producer is not None and producer.op_type == "Transpose"
    if chip.series == "310p":  # op_host: its tiling is for a transposed weight only
        yield "weight", "as it is", turned, "behind a Transpose"
    wanted = (-(-inputs // group), outputs) if group else (outputs,)
    scale_fits = scale.dtype == half and dims(scale) == wanted
    yield "scale", f"{scale.dtype} {scale.shape}", scale_fits, f"FLOAT16 {wanted}"


def norms(model: ir.Model, _: AscendChip) -> Iterator[Problem]:
    """Input and gamma are of one type, and a row is not too short."""
    for node in model.graph:
        if node.op_type != "NPURmsNorm":
            continue
        x, gamma = given(node, 0), given(node, 1)
        if x.dtype not in FLOATS or gamma.dtype != x.dtype:
            got = f"{x.dtype}, {gamma.dtype}"
            yield Problem(node_name(node), got, "FLOAT16 or FLOAT, both the same")
        elif dims(gamma)[-1] * x.dtype.itemsize < MIN_NORM_BYTES:
            got = f"rows of {dims(gamma)[-1]}"
            yield Problem(node_name(node), got, f"{MIN_NORM_BYTES} bytes or more")


def rotations(model: ir.Model, _: AscendChip) -> Iterator[Problem]:
    """Rows of all heads (1, S, N, D), and tables (1, S, 1, D) that are spread over the heads."""
    for node in model.graph:
        if node.op_type != "NPURotaryMul":
            continue
        x, *tables = (given(node, i) for i in range(3))
        batch, rows, heads, size = dims(x)
        for table in tables:
            if dims(table) != (batch, rows, 1, size) or table.dtype != x.dtype:
                got = f"{table.dtype} {table.shape}"
                yield Problem(f"table of {node_name(node)}", got, f"{x.dtype} (1, rows, 1, size)")
        if batch != 1 or heads > MAX_ROTATED_HEADS or size % ROTATED_MULTIPLE:
            allowed = f"(1, rows, up to {MAX_ROTATED_HEADS}, a multiple of {ROTATED_MULTIPLE})"
            yield Problem(f"x of {node_name(node)}", str(x.shape), allowed)


def flash_attention(model: ir.Model, chip: AscendChip) -> Iterator[Problem]:
    """On a 310P a mask only where as many rows are cached as are new, in multiples of 128."""
    for node in model.graph:
        if node.op_type == "NPUIncreFlashAttention":
            allowed = "MatMul and Softmax, since its ONNX plugin seems to miscount its inputs"
            yield Problem(node_name(node), node.op_type, allowed)
        elif node.op_type == "NPUPromptFlashAttention" and chip.series == "310p":
            rows = dims(given(node, 0))[-2], dims(given(node, 1))[-2]
            masked = len(node.inputs) > 4 and node.inputs[4] is not None
            if masked and (rows[0] != rows[1] or rows[0] % MASKED_MULTIPLE):
                got = f"a mask with {rows[0]} and {rows[1]} rows"
                allowed = f"equal multiples of {MASKED_MULTIPLE}, or no mask"
                yield Problem(node_name(node), got, allowed)


KERNEL_RULES = (
    Rule("every kernel exists on the chip", present),
    Rule("WeightQuantBatchMatmulV2 takes its inputs", weight_quant),
    Rule("NPURmsNorm takes its inputs", norms),
    Rule("NPURotaryMul takes its inputs", rotations),
    Rule("flash attention takes its mask", flash_attention),
)
