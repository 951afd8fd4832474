"""FusedInferAttentionScore: ops-transformer, attention/fused_infer_attention_score.

Shapes: B sequences, S new rows, T rows of the cache, N heads of queries, G of keys and values, each
of size D.
"""

import numpy as np

from tests.emulator.ge.call import Array, Call, Results, Type, rounded

__all__ = ["attention", "attention_type"]


def attention(call: Call) -> Results:
    """Rows beyond an actual length are not read. Rows that a mask hides are, as on the chip: what
    is no number there comes through."""
    query, key, value = _by_heads(call)
    batch, seq_len, heads, size = query.shape
    rows, groups = key.shape[1:3]
    lengths = _lengths(call, "actual_seq_lengths_kv", batch, rows)
    new_rows = _lengths(call, "actual_seq_lengths", batch, seq_len)
    out = np.zeros((batch, groups, heads // groups, seq_len, size), np.float32)
    for b in range(batch):
        length, new = lengths[b], new_rows[b] if seq_len > 1 else 1
        q = query[b, :new].reshape(new, groups, -1, size).transpose(1, 2, 0, 3)
        k, v = (x[b, :length].transpose(1, 0, 2)[:, None] for x in (key, value))
        hidden = _hidden(call, b, (new, length), (seq_len, rows))
        out[b, :, :, :new] = _attended(q, k, v, hidden, call.attr("scale", 1.0))
    merged = out.transpose(0, 3, 1, 2, 4).reshape(call["query"].shape)
    return (rounded(merged, query), np.zeros(1, np.float32))


def attention_type(call: Call) -> tuple[Type, ...]:
    """Attention and softmax_lse."""
    query = call["query"]
    return (Type(query.dtype.name, query.shape), Type("float32", (1,)))


def _by_heads(call: Call) -> tuple[Array, Array, Array]:
    """query (B, S, N, D), key and value (B, T, G, D), whatever the layout."""
    query, key, value = call["query"], call["key0"], call["value0"]
    if call.attr("input_layout", "BSH") == "BSH":
        heads = call.attr("num_heads", 1)
        groups = call.attr("num_key_value_heads", 0) or heads
        query = query.reshape(*query.shape[:2], heads, -1)
        key, value = (x.reshape(*x.shape[:2], groups, -1) for x in (key, value))
    return query, key, value


def _lengths(call: Call, name: str, batch: int, rows: int) -> tuple[int, ...]:
    lengths = call.ints(name) if name in call else (rows,)
    lengths = lengths * batch if len(lengths) == 1 else lengths[:batch]
    if any(not 0 <= length <= rows for length in lengths):
        raise IndexError(f"{name} of {call.node.name} is {lengths}, there are {rows} rows")
    return lengths


def _hidden(
    call: Call, sequence: int, found: tuple[int, int], full: tuple[int, int]
) -> Array | None:
    """(S, T), or None where nothing is hidden."""
    if "atten_mask" not in call:
        return None
    mask, (new, length) = call["atten_mask"], found
    sparse = call.attr("sparse_mode", 0) if full[0] > 1 else 0
    if sparse > 1:  # the mask is a pattern of its own; causal from the left or from the right end
        pattern = mask.reshape(mask.shape[-2:]) != 0
        if not (pattern == ~np.tri(len(pattern), dtype=np.bool_)).all():
            raise ValueError(f"atten_mask of {call.node.name} is no triangle")
        last = np.arange(new)[:, None] + (length - new if sparse == 3 else 0)
        return np.asarray(np.arange(length) > last)
    if mask.ndim == 2 and full[0] == 1:
        mask = mask[:, None]
    mask = mask.reshape(-1, *full)
    return np.asarray(mask[sequence if len(mask) > 1 else 0, :new, :length] != 0)


def _attended(q: Array, k: Array, v: Array, hidden: Array | None, scale: float) -> Array:
    """q (G, N/G, S, D), k and v (G, 1, T, D). Scores and softmax in float32, the weights rounded
    before they meet the values."""
    if not k.shape[2]:
        return np.zeros(q.shape, np.float32)
    scores = q.astype(np.float32) @ k.astype(np.float32).swapaxes(-1, -2) * np.float32(scale)
    if hidden is not None:
        # A large number, not infinity: a row that is hidden whole gives the mean of the values.
        scores = np.where(hidden, np.finfo(np.float32).min, scores)
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    weights = rounded(powers, v).astype(np.float32)
    attended: Array = weights @ v.astype(np.float32) / powers.sum(-1, keepdims=True)
    return attended
