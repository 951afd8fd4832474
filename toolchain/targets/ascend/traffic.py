"""What a call of a lowered graph moves and computes, kernel by kernel.

Counted as the graph stands, every tensor between two kernels once written and once read by each
that takes it. ATC may fuse kernels and a chip may keep small tensors in its L2 cache, so less may
be moved; how much less only a chip tells.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from toolchain.costs.rates import Rates
from toolchain.targets.ascend.chips import AscendChip

__all__ = ["LAUNCH_SECONDS", "Kernel", "kernels", "seconds"]

LAUNCH_SECONDS = 3e-6  # from one kernel to the next, of a static graph on the device; a guess

VIEWS = {"Reshape", "Squeeze", "Unsqueeze", "Identity", "Flatten"}  # another shape, no kernel
PICKS = {"Gather", "GatherElements", "GatherND", "Slice"}  # read no more than they write
PRODUCTS = {"MatMul", "Gemm", "WeightQuantBatchMatmulV2"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    """One kernel of a call.

    node: that it runs for.
    op_type: that of the node, or TransData for a conversion that ATC puts before it.
    num_bytes: read and written.
    operations: of a product, a multiplication and an addition being two; vectors take none.
    """

    node: str
    op_type: str
    num_bytes: int
    operations: int = 0


def kernels(model: ir.Model, chip: AscendChip) -> list[Kernel]:
    """The kernels of one call, in the order of the graph.

    Nodes that only change a shape have none, and what depends on constants alone is computed by
    ATC. On a chip that takes the right factor of a product in blocks only, one that is no constant
    is converted before.
    """
    constants = {id(value) for value in model.graph.initializers.values()}
    found: list[Kernel] = []
    for node in model.graph:
        if all(value is None or id(value) in constants for value in node.inputs):
            constants.update(id(value) for value in node.outputs)
        elif node.op_type not in VIEWS:
            found += _kernels_of(node, constants, chip)
    return found


def _kernels_of(node: ir.Node, constants: set[int], chip: AscendChip) -> Iterator[Kernel]:
    name, written = str(node.name), sum(map(_bytes, node.outputs))
    if node.op_type in PRODUCTS and chip.right_factor_in_blocks:
        right = node.inputs[1]
        if id(right) not in constants:
            yield Kernel(node=name, op_type="TransData", num_bytes=2 * _bytes(right))
    distinct = {id(value): value for value in node.inputs}
    read = written if node.op_type in PICKS else sum(map(_bytes, distinct.values()))
    operations = 0
    if node.op_type in PRODUCTS:
        [out] = node.outputs
        transposed = node.attributes.get_int("transA", 0)
        depth = _shape(node.inputs[0])[0 if transposed else -1]
        operations = 2 * math.prod(_shape(out)) * depth
    yield Kernel(node=name, op_type=node.op_type, num_bytes=read + written, operations=operations)


def _shape(value: ir.Value | None) -> tuple[int, ...]:
    assert value is not None, "the input is given"
    assert value.shape is not None, "a rule asks for static shapes"
    return tuple(value.shape.numpy())


def _bytes(value: ir.Value | None) -> int:
    if value is None:  # an optional input
        return 0
    assert value.dtype is not None, "every value of a lowered graph is typed"
    return math.ceil(math.prod(_shape(value)) * value.dtype.itemsize)


def seconds(counted: Sequence[Kernel], rates: Rates) -> float:
    """Time of a call: its kernels one after the other, each with the start of the next."""
    return sum(
        LAUNCH_SECONDS + rates.seconds(kernel.num_bytes, kernel.operations) for kernel in counted
    )
