"""Random attention over an int8 cache, and what it is in float64."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.kernels.library import Kernels

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Arrays as Kernels.attend takes them."""

    query: Floats
    key: Floats
    value: Floats
    cos: Floats
    sin: Floats
    key_scale: Floats
    value_scale: Floats
    last_positions: NDArray[np.int32]
    keys: NDArray[np.int8]
    values: NDArray[np.int8]

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """Copies: attention writes to the cache."""
        return {name: getattr(self, name).copy() for name in self.__slots__}

    def run(self, kernels: Kernels) -> tuple[Floats, NDArray[np.int8], NDArray[np.int8]]:
        """The result, and the cache with the new rows."""
        arrays = self.arrays
        return kernels.attend(**arrays), arrays["keys"], arrays["values"]


def random_case(
    rng: np.random.Generator,
    starts: list[int],
    num_rows: int,
    heads: tuple[int, int],
    head_dim: int,
    *,
    spread: float = 3.0,
    spare: int = 1,
) -> Case:
    """Sequences that have `starts` rows get `num_rows` more; H and G heads.

    Channels of keys differ a hundredfold. The cache has `spare` rows behind the longest sequence.
    """
    num_heads, kv_num_heads = heads
    batch_size, cache_rows = len(starts), max(starts) + num_rows + spare

    def normal(*shape: int) -> Floats:
        return rng.standard_normal(shape).astype(np.float32)

    reach = np.exp(rng.uniform(-2.3, 2.3, (2, kv_num_heads, head_dim))).astype(np.float32)
    angles = np.arange(cache_rows)[:, None] * rng.random(head_dim // 2)
    cached = (2, batch_size, kv_num_heads, cache_rows, head_dim)
    keys, values = rng.integers(-128, 128, cached).astype(np.int8)
    return Case(
        query=spread * normal(batch_size, num_rows, num_heads, head_dim) / reach.mean(),
        key=normal(batch_size, num_rows, kv_num_heads, head_dim) * reach[0],
        value=normal(batch_size, num_rows, kv_num_heads, head_dim) * reach[1],
        cos=np.cos(angles).astype(np.float32),
        sin=np.sin(angles).astype(np.float32),
        key_scale=reach[0] / 40,
        value_scale=reach[1] / 40,
        last_positions=np.array(starts, np.int32) + np.int32(num_rows - 1),
        keys=keys,
        values=values,
    )


def turned(x: NDArray[np.float64], cos: Floats, sin: Floats) -> NDArray[np.float64]:
    """Rows (S, heads, D) by the angles of their positions (S, D / 2)."""
    left, right = np.split(x, 2, axis=-1)
    c, s = cos[:, None].astype(np.float64), sin[:, None].astype(np.float64)
    return np.concatenate([left * c - right * s, right * c + left * s], axis=-1)


def in_float64(case: Case) -> tuple[NDArray[np.float64], NDArray[np.int8], NDArray[np.int8]]:
    """The result and the cache, with nothing rounded but the new rows."""
    batch_size, num_rows, num_heads, head_dim = case.query.shape
    keys, values = case.keys.copy(), case.values.copy()
    y = np.zeros(case.query.shape)
    group = num_heads // keys.shape[1]
    for b in range(batch_size):
        end = int(case.last_positions[b]) + 1
        new = slice(end - num_rows, end)
        query = turned(case.query[b].astype(np.float64), case.cos[new], case.sin[new])
        key = turned(case.key[b].astype(np.float64), case.cos[new], case.sin[new])
        for cache, rows, scale in (
            (keys, key, case.key_scale),
            (values, case.value[b].astype(np.float64), case.value_scale),
        ):
            levels = np.clip(np.rint(rows / scale), -128, 127)
            cache[b, :, new] = levels.astype(np.int8).transpose(1, 0, 2)
        hidden = np.arange(end) > np.arange(new.start, end)[:, None]
        for head in range(num_heads):
            g = head // group
            seen = keys[b, g, :end] * case.key_scale[g].astype(np.float64)
            scores = query[:, head] @ seen.T / np.sqrt(head_dim)
            scores[hidden] = -np.inf
            weights = np.exp(scores - scores.max(axis=1, keepdims=True))
            weights /= weights.sum(axis=1, keepdims=True)
            y[b, :, head] = weights @ (values[b, g, :end] * case.value_scale[g].astype(np.float64))
    return y, keys, values
