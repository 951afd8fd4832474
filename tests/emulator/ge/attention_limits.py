"""What attention and the in-place write of the cache take; both are on a 910B only.

Sources: op-plugin, docs/zh/custom_APIs/torch_npu, npu_fused_infer_attention_score and
scatter_update_; ops-transformer, attention/fused_infer_attention_score/docs.
"""

from collections.abc import Iterator
from typing import Final

from tests.emulator.ge.call import Array, Call

__all__ = ["attention", "scatter"]

IMITATED: Final = (
    "query",
    "key0",
    "value0",
    "atten_mask",
    "actual_seq_lengths",
    "actual_seq_lengths_kv",
)
CAUSAL_MASK: Final = 2048  # rows and columns of the mask that sparse modes 2 to 4 take
UNLIMITED: Final = 2147483647
MAX_HEADS, MAX_RATIO, MAX_HEAD_DIM, MAX_DECODE_ROWS = 256, 64, 512, 262144


def attention(call: Call) -> Iterator[str]:
    """What is wrong with a FusedInferAttentionScore."""
    layout = call.attr("input_layout", "BSH")
    rank = {"BSH": 3, "BSND": 4}.get(layout)
    query, key, value = call["query"], call["key0"], call["value0"]
    if rank is None or [x.ndim for x in (query, key, value)] != [rank] * 3:
        yield f"layout {layout}, query {list(query.shape)}, key {list(key.shape)}"
        return
    if len({x.dtype for x in (query, key, value)}) > 1 or key.shape != value.shape:
        yield f"query is {query.dtype}, key {key.dtype} {list(key.shape)}, value {value.dtype}"
    if key.shape[0] != query.shape[0]:
        yield f"query has {query.shape[0]} sequences, key {key.shape[0]}"
    yield from _heads(call, layout)
    if query.shape[1] == 1 and key.shape[1] > MAX_DECODE_ROWS:
        yield f"{key.shape[1]} rows of the cache"
    yield from _mask(call)
    for name in ("actual_seq_lengths", "actual_seq_lengths_kv"):
        if name in call:
            yield from _lengths(name, call[name], query.shape[0])
    others = [name for name in call.inputs if name not in IMITATED]
    if others:
        yield f"{', '.join(others)}: not imitated by this emulator"


def _heads(call: Call, layout: str) -> Iterator[str]:
    query, key = call["query"], call["key0"]
    heads = call.attr("num_heads", 1)
    groups = call.attr("num_key_value_heads", 0) or heads
    if heads % groups or heads // groups > MAX_RATIO or heads > MAX_HEADS:
        yield f"num_heads is {heads}, num_key_value_heads {groups}"
        return
    found = (query.shape[2], key.shape[2])
    if layout == "BSND":
        if found != (heads, groups):
            yield f"query and key have {found} heads, the attributes say {(heads, groups)}"
        size, key_size = query.shape[3], key.shape[3]
    elif found[0] % heads or found[1] % groups:
        yield f"{found} cannot be split into {(heads, groups)} heads"
        return
    else:
        size, key_size = found[0] // heads, found[1] // groups
    if size != key_size or size % 16 or size > MAX_HEAD_DIM:
        yield f"heads of {size} and {key_size}; multiples of 16 up to {MAX_HEAD_DIM}"


def _mask(call: Call) -> Iterator[str]:
    sparse, rows = call.attr("sparse_mode", 0), call["query"].shape[1]
    if sparse not in (0, 1, 2, 3):
        yield f"sparse_mode {sparse} is not imitated by this emulator"
    tokens = (call.attr("pre_tokens", UNLIMITED), call.attr("next_tokens", UNLIMITED))
    if "atten_mask" not in call:
        if sparse:
            yield f"sparse_mode {sparse} needs atten_mask"
        return
    if sparse == 0 and rows > 1 and tokens != (UNLIMITED, UNLIMITED):
        yield "pre_tokens and next_tokens beside a mask are not imitated by this emulator"
    mask = call["atten_mask"]
    if mask.dtype.name not in ("bool", "int8", "uint8"):
        yield f"atten_mask is {mask.dtype}"
    if mask.shape not in _mask_shapes(call, sparse):
        yield f"atten_mask is {list(mask.shape)}, sparse_mode {sparse}"


def _mask_shapes(call: Call, sparse: int) -> list[tuple[int, ...]]:
    batch, rows = call["query"].shape[:2]
    cached = call["key0"].shape[1]
    if sparse > 1 and rows > 1:
        plain = (CAUSAL_MASK, CAUSAL_MASK)
        return [plain, (1, *plain), (1, 1, *plain)]
    plain = (rows, cached)
    flat = [(batch, cached)] if rows == 1 else [plain]
    whole = [(b, *one, *plain) for b in (1, batch) for one in ((), (1,))]
    return flat + whole


def _lengths(name: str, lengths: Array, batch: int) -> Iterator[str]:
    if lengths.dtype.name != "int64" or lengths.ndim != 1:
        yield f"{name} is {lengths.dtype} {list(lengths.shape)}; int64 of one dim"
    elif lengths.size != 1 and lengths.size < batch:
        yield f"{name} has {lengths.size} numbers for {batch} sequences"


def scatter(call: Call) -> Iterator[str]:
    """What is wrong with a Scatter."""
    var, indices, updates = call["var"], call["indices"], call["updates"]
    axis = call.attr("axis", 0)
    if call.attr("reduce") != "update":
        yield f"reduce {call.attr('reduce')}"
    if var.dtype != updates.dtype or indices.dtype.name not in ("int32", "int64"):
        yield f"var is {var.dtype}, indices {indices.dtype}, updates {updates.dtype}"
    if var.ndim != updates.ndim or not 2 <= var.ndim <= 8:
        yield f"var is {list(var.shape)}, updates {list(updates.shape)}"
        return
    if not -var.ndim < axis < var.ndim or axis == 0:
        yield f"axis {axis}"
        return
    axis %= var.ndim
    others = [number for number in range(1, var.ndim) if number != axis]
    if any(var.shape[number] != updates.shape[number] for number in others):
        yield f"var is {list(var.shape)}, updates {list(updates.shape)}, axis {axis}"
    if updates.shape[axis] > var.shape[axis] or updates.shape[0] > var.shape[0]:
        yield f"updates {list(updates.shape)} do not fit into {list(var.shape)}"
    pairs = indices.ndim == 2 and indices.shape[1] == 2
    if not (indices.ndim == 1 or pairs) or indices.shape[0] != updates.shape[0]:
        yield f"indices are {list(indices.shape)} for {updates.shape[0]} updates"
