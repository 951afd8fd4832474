"""Which chip has a kernel for an operator, and what the kernel takes.

Sources: op_host/*_def.cpp and docs of ops-nn and ops-transformer; op-plugin, docs/zh/custom_APIs.
Operators that are not in the table run on every chip, on the AI CPU where nothing else can.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from tests.emulator.atc_errors import AtcError
from tests.emulator.ge.attention_limits import attention, scatter
from tests.emulator.ge.call import Call
from tests.emulator.ge.products import TURNED, right_dims

__all__ = ["check_call"]

MAX_WEIGHT_DIM: Final = 65535
ROTATED: Final = (64, 128)  # sizes of a head that ApplyRotaryPosEmb takes
MIN_ROW_BYTES: Final = 32  # of what a norm takes on a 310P

Problems = Iterator[str]
Types = Mapping[str, frozenset[str]]  # series -> element types of the first input


def _types(**series: str) -> Types:
    return {name.removeprefix("_"): frozenset(text.split()) for name, text in series.items()}


FLOATS: Final = _types(_310P="float16 float32", _910B="float16 float32 bfloat16")
PRODUCT: Final = _types(_310P="float16", _310B="float16", _910B="float16 float32 bfloat16")
LEVELS: Final = _types(_310P="float16", _910B="float16 bfloat16")


def _norm(call: Call) -> Problems:
    x, gamma = call["x" if "x" in call else "x1"], call["gamma"]
    if gamma.dtype != x.dtype:
        yield f"x is {x.dtype}, gamma {gamma.dtype}"
    if gamma.shape != x.shape[x.ndim - gamma.ndim :]:
        yield f"x is {list(x.shape)}, gamma {list(gamma.shape)}"
    if x.shape[-1] * x.itemsize < MIN_ROW_BYTES:
        yield f"a row has {x.shape[-1]} numbers"
    if "x2" in call and (call["x2"].shape, call["x2"].dtype) != (x.shape, x.dtype):
        yield f"x2 is {call['x2'].dtype} {list(call['x2'].shape)}"


def _apply_rotary(call: Call) -> Problems:
    query, key, cos, sin = (call[name] for name in ("query", "key", "cos", "sin"))
    if len({x.dtype for x in (query, key, cos, sin)}) > 1:
        yield "query, key, cos and sin must be of one type"
    if (call.attr("layout", 1), call.attr("rotary_mode", "half")) != (1, "half"):
        yield "only layout 1, rotary_mode half"
    if query.ndim != 4 or key.ndim != 4 or query.shape[3] not in ROTATED:
        yield f"query is {list(query.shape)}; four dims, the last of {ROTATED}"
        return
    batch, rows, _, size = query.shape
    if (*key.shape[:2], key.shape[3]) != (batch, rows, size):
        yield f"query is {list(query.shape)}, key {list(key.shape)}"
    if not cos.shape == sin.shape == (batch, rows, 1, size):
        yield f"cos is {list(cos.shape)}; ({batch}, {rows}, 1, {size})"


def _rotary_mul(call: Call) -> Problems:
    """op-plugin, npu_rotary_mul: BSND with tables for all sequences or for each."""
    x = call["x"]
    if x.ndim != 4:
        yield f"x is {list(x.shape)}"
        return
    batch, rows, heads, size = x.shape
    if size % 2 or size >= 896 or heads >= 1000 or batch >= 1000:
        yield f"x is {list(x.shape)}"
    for name in ("r1", "r2"):
        if call[name].shape not in [(1, rows, 1, size), (batch, rows, 1, size)]:
            yield f"{name} is {list(call[name].shape)}"
        if call[name].dtype != x.dtype:
            yield f"x is {x.dtype}, {name} {call[name].dtype}"


def _rotary_mul_310p(call: Call) -> Problems:
    """The kernel that is compiled with the graph; CANN 7.0's page names multiples of 64."""
    batch, _, heads, size = call["x"].shape
    if size % 64 or batch * heads > 1024:
        yield f"x is {list(call['x'].shape)}"


def _swiglu(call: Call) -> Problems:
    if call["x"].shape[call.attr("dim", -1)] % 2:
        yield f"x is {list(call['x'].shape)}, the axis must be even"


def _weight_quant(call: Call) -> Problems:
    """docs of ops-nn, matmul/weight_quant_batch_matmul_v2."""
    x, weight, scale = call["x"], call["weight"], call["antiquant_scale"]
    if weight.dtype.name not in ("int8", "int4") or weight.ndim != 2:
        yield f"weight is {weight.dtype} {list(weight.shape)}"
        return
    if scale.dtype != x.dtype:
        yield f"x is {x.dtype}, antiquant_scale {scale.dtype}"
    (k, n), group = right_dims(call), call.attr("antiquant_group_size", 0)
    if max(k, n) > MAX_WEIGHT_DIM:
        yield f"k={k} and n={n} must not exceed {MAX_WEIGHT_DIM}"
    if group and (group % 32 or not 32 <= group <= k - 1):
        yield f"antiquant_group_size {group} is no multiple of 32 in [32, k-1]"
    turned = call.attr("transpose_weight", False)
    groups = -(-k // group) if group else 1
    grouped = [(n, groups) if turned else (groups, n)]
    allowed = grouped if group else [(1,), (1, 1), (n,), *grouped]
    for name in ("antiquant_scale", "antiquant_offset"):
        if name in call and call[name].shape not in allowed:
            yield f"{name} is {list(call[name].shape)}, allowed are {allowed}"
    given = [name for name in ("quant_scale", "quant_offset") if name in call]
    if given or call.attr("transpose_x", False):
        yield f"{given or 'transpose_x'} is not imitated by this emulator"


def _weight_quant_310p(call: Call) -> Problems:
    if call["weight"].dtype.name != "int8":
        yield f"weight is {call['weight'].dtype}"
    if not call.attr("transpose_weight", False):
        yield "no tiling for transpose_weight = false"


def _nothing(_: Call) -> Problems:
    return iter(())


@dataclass(frozen=True, slots=True)
class Kernel:
    """Element types by series, and what is wrong with a call."""

    types: Types
    problems: Callable[[Call], Problems] = _nothing


KERNELS: Final[Mapping[str, Kernel]] = {
    **{name: Kernel(PRODUCT) for name in TURNED},
    "RmsNorm": Kernel(FLOATS, _norm),
    "AddRmsNorm": Kernel(FLOATS, _norm),
    "SwiGlu": Kernel(FLOATS, _swiglu),
    "RotaryMul": Kernel(FLOATS, _rotary_mul),
    "ApplyRotaryPosEmb": Kernel(FLOATS, _apply_rotary),
    "WeightQuantBatchMatmulV2": Kernel(LEVELS, _weight_quant),
    "FusedInferAttentionScore": Kernel(_types(_910B="float16 bfloat16"), attention),
    "Scatter": Kernel(_types(_910B="int8 float16 float32 bfloat16 int32"), scatter),
}
# What a series asks for beyond that.
NARROWER: Final[Mapping[tuple[str, str], Callable[[Call], Problems]]] = {
    ("310P", "RotaryMul"): _rotary_mul_310p,
    ("310P", "WeightQuantBatchMatmulV2"): _weight_quant_310p,
}
ABSENT_TYPES: Final = {"310P": "bfloat16", "310B": "bfloat16"}


def check_call(call: Call, series: str) -> None:
    """Refuses an operator that a chip cannot compute.

    Raises:
        AtcError: EZ3003, with the reason that the kernels' library gives.
    """
    node = call.node
    for name, array in call.inputs.items():
        if array.dtype.name == ABSENT_TYPES.get(series):
            raise _refused(call, f"{name} is {array.dtype}")
    kernel = KERNELS.get(node.type)
    if kernel is None:
        return
    if series not in kernel.types:
        raise _refused(call, f"there is none on {series}")
    first = next(iter(call.inputs.values()))
    if first.dtype.name not in kernel.types[series]:
        raise _refused(call, f"{node.input_names[0]} is {first.dtype}")
    narrower = NARROWER.get((series, node.type), _nothing)
    for problem in (*kernel.problems(call), *narrower(call)):
        raise _refused(call, problem)


def _refused(call: Call, reason: str) -> AtcError:
    # ge, compiler/engines/manager/engine_manager: EZ3002 for each library, then EZ3003.
    node = call.node
    text = f"No supported Ops kernel and engine are found for [{node.name}], optype [{node.type}]."
    cause = f"EZ3002: Optype [{node.type}] of Ops kernel [AIcoreEngine] is unsupported: {reason}."
    return AtcError("EZ3003", text, cause=cause, title="Not_Supported_Operator")
