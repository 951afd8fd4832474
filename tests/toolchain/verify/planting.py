"""Faults to plant in a bundle, with honest hashes. Weights are flat arrays by name."""

from collections.abc import Callable
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.bundle.reader import Bundle
from runtime.bundle.writer import BundleWriter

Weights = dict[str, NDArray[Any]]
Edit = Callable[[Weights], None]


def planted(bundle: Bundle, output: Path, edit: Edit) -> Bundle:
    """A copy with other weights: those of an exported bundle, scales of a compiled one."""
    suffix = "" if bundle.manifest.stage == "exported" else ".scales.tiles"
    names = {r: r.rpartition("/")[2] for r in bundle.manifest.files if "/weights/" in r}
    weights = {
        name: np.fromfile(bundle.file(relative), np.float16)
        for relative, name in names.items()
        if name.endswith(suffix)
    }
    edit(weights)
    with BundleWriter(output) as writer:
        for relative in bundle.manifest.files:
            changed = weights.get(names.get(relative, ""))
            data = bundle.file(relative).read_bytes() if changed is None else changed.tobytes()
            writer.files.write(relative, [data])
        return writer.finish(bundle.manifest.model_copy(update={"files": writer.files.entries}))


def transpose_q(weights: Weights) -> None:
    name = "layers.2.self_attn.q_proj.weight"
    side = isqrt(weights[name].size)
    weights[name] = np.ascontiguousarray(weights[name].reshape(side, side).T)


def swap_gate_and_up(weights: Weights) -> None:
    gate, up = "layers.1.mlp.gate_proj.weight", "layers.1.mlp.up_proj.weight"
    weights[gate], weights[up] = weights[up], weights[gate]


def drop_norm(weights: Weights) -> None:
    name = "layers.3.post_attention_layernorm.weight"
    weights[name] = np.ones_like(weights[name])


def scale_norm(weights: Weights) -> None:
    weights["layers.1.input_layernorm.weight"] *= np.float16(1.5)


def swap_layers(weights: Weights) -> None:
    for name in [name for name in weights if name.startswith("layers.1.")]:
        other = name.replace("layers.1.", "layers.2.")
        weights[name], weights[other] = weights[other], weights[name]


def scale_final_norm(weights: Weights) -> None:
    weights["norm.weight"] *= np.float16(1.25)


def wrong_head_row(weights: Weights) -> None:
    head = weights["lm_head.weight"].reshape(-1, weights["norm.weight"].size)
    head[300] = head[77]


def poison(weights: Weights) -> None:
    weights["layers.1.input_layernorm.weight"][3] = np.nan


def zero_scales(weights: Weights) -> None:
    """A tenth of the blocks of one weight."""
    [name] = [name for name in weights if name.startswith("layers.1.self_attn.qkv_proj")]
    weights[name][: weights[name].size // 10] = 0
