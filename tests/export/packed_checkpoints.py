"""Tiny checkpoints as the tools of GPTQ and AWQ write them, and the numbers that they stand for."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel

from tests.export.families import save_family

__all__ = ["FORMATS", "Format", "save_packed"]

Levels = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """How a tool writes levels, and the settings that it puts into config.json."""

    settings: dict[str, Any]
    zero_offset: int = 0  # is taken from a zero point when it is stored
    asymmetric: bool = False

    def zeros(self, rng: np.random.Generator, shape: tuple[int, int]) -> Levels:
        if not self.asymmetric:
            return np.full(shape, 8)
        return rng.integers(self.zero_offset, 16, shape)


GPTQ: dict[str, Any] = {"quant_method": "gptq", "bits": 4, "desc_act": False}
FORMATS = {
    "gptq": Format(settings={**GPTQ, "sym": True}, zero_offset=1),
    "gptq, asymmetric": Format(settings={**GPTQ, "sym": False}, zero_offset=1, asymmetric=True),
    "gptq v2": Format(
        settings={**GPTQ, "sym": False, "checkpoint_format": "gptq_v2"}, asymmetric=True
    ),
    "awq": Format(
        settings={"quant_method": "awq", "bits": 4, "zero_point": True, "version": "gemm"},
        asymmetric=True,
    ),
}


def save_packed(
    directory: Path, form: Format, group_size: int = 32, name: str = "Llama 2", **sizes: int
) -> PreTrainedModel:
    """Writes the checkpoint; returns the model with the numbers that its levels stand for."""
    model = save_family(name, directory, **sizes)
    settings = {**form.settings, "group_size": group_size}
    rng = np.random.default_rng(5)
    tensors: dict[str, Tensor] = {}
    for key, weight in model.state_dict().items():
        module, _, kind = key.rpartition(".")
        if kind != "weight" or weight.ndim != 2 or "embed" in key or "lm_head" in key:
            tensors[key] = weight.half()
            continue
        num_rows, num_columns = weight.shape
        groups = (num_rows, num_columns // group_size)
        levels, zeros = rng.integers(0, 16, weight.shape), form.zeros(rng, groups)
        scales = (rng.uniform(0.5, 1.5, groups) * 0.25 / num_columns**0.5).astype(np.float16)
        parts = _gptq if form.settings["quant_method"] == "gptq" else _awq
        for part, words in parts(levels, zeros - form.zero_offset).items():
            stored = np.ascontiguousarray(words.astype(np.uint32)).view(np.int32)
            tensors[f"{module}.{part}"] = torch.from_numpy(stored)
        tensors[f"{module}.scales"] = torch.from_numpy(np.ascontiguousarray(scales.T))
        spread = [array.repeat(group_size, 1) for array in (zeros, scales.astype(np.float64))]
        weight.copy_(torch.from_numpy((levels - spread[0]) * spread[1]).float())
    if model.config.tie_word_embeddings:
        tensors.pop("lm_head.weight", None)
    save_file(tensors, directory / "model.safetensors", {"format": "pt"})
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps({**config, "quantization_config": settings}))
    model.tie_weights()
    return model


def _words(levels: Levels, order: list[int]) -> Levels:
    """Eight columns in a word; the lowest nibble has column order[0]."""
    eights = levels.reshape(len(levels), -1, 8)
    words: Levels = (eights[..., order] << 4 * np.arange(8)).sum(-1)
    return words


def _gptq(levels: Levels, zeros: Levels) -> dict[str, Levels]:
    """(K / 8, N) and (G, N / 8), eight inputs or outputs one after the other."""
    straight = list(range(8))
    group_size = levels.shape[1] // zeros.shape[1]
    return {
        "qweight": _words(levels, straight).T,
        "qzeros": _words(zeros.T, straight),
        "g_idx": np.arange(levels.shape[1]) // group_size,
    }


def _awq(levels: Levels, zeros: Levels) -> dict[str, Levels]:
    """(K, N / 8) and (G, N / 8), of eight outputs the even ones first."""
    order = [0, 2, 4, 6, 1, 3, 5, 7]
    return {"qweight": _words(levels.T, order), "qzeros": _words(zeros.T, order)}
