"""Perplexity of a checkpoint beyond its length, by how its positions are scaled.

Texts follow each other up to so many tokens. The float32 reference of torch, as `verify` takes it,
gives the perplexity of each stretch of positions; with --transformers that library does it besides,
from settings of its own. NTK is there what the original scripts do: another base, which is
`rope_theta * alpha ** (d / (d - 2))`, by attn_and_long_ctx_patches.py of Chinese-LLaMA-Alpaca-2.

Usage: long_positions.py MODEL --ids FILE [--length 8192] [--rope ntk:auto ...] [--transformers]
"""

import argparse
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import AutoConfig, AutoModelForCausalLM

from export.config import load_config
from export.reference import Reference
from export.rope_settings import with_rope
from runtime.bundle.manifest import ModelConfig
from runtime.bundle.rope import NtkRope
from toolchain.token_ids import read_ids

Logits = NDArray[np.float32]

BLOCK = 512  # rows of logits at a time


def losses(reference: Reference, ids: list[int]) -> NDArray[np.float64]:
    """Negative log-likelihood of each next token, (S - 1,)."""
    [hidden] = reference.hidden([ids])
    blocks = (reference.logits(hidden[i : i + BLOCK]) for i in range(0, len(ids) - 1, BLOCK))
    return surprises(blocks, ids)


def surprises(blocks: Iterable[Logits], ids: list[int]) -> NDArray[np.float64]:
    """The same from the logits of BLOCK rows at a time."""
    found = []
    for start, block in zip(range(0, len(ids) - 1, BLOCK), blocks, strict=True):
        logits = block.astype(np.float64)
        following = ids[start + 1 : start + 1 + BLOCK]
        logits = logits[: len(following)]
        peaks = logits.max(1, keepdims=True)
        sums = np.log(np.exp(logits - peaks).sum(1)) + peaks[:, 0]
        found.append(sums - logits[np.arange(len(following)), following])
    return np.concatenate(found)


def losses_of_transformers(model: Path, scaled: ModelConfig, ids: list[int]) -> NDArray[np.float64]:
    """What that library makes of the same positions."""
    config = AutoConfig.from_pretrained(model)
    config.rope_parameters = rope_parameters(scaled)
    config.max_position_embeddings = len(ids)
    theirs = AutoModelForCausalLM.from_pretrained(model, config=config, dtype=torch.float32)
    with torch.no_grad():
        hidden = theirs.model(torch.tensor([ids])).last_hidden_state[0]
        blocks = (theirs.lm_head(rows).numpy() for rows in torch.split(hidden[:-1], BLOCK))
        return surprises(blocks, ids)


def rope_parameters(scaled: ModelConfig) -> dict[str, Any]:
    """The settings of transformers that mean a scaling."""
    scaling, theta, dimensions = scaled.rope_scaling, scaled.rope_theta, scaled.head_dim
    if isinstance(scaling, NtkRope):
        theta *= scaling.alpha ** (dimensions / (dimensions - 2))
        return {"rope_type": "default", "rope_theta": theta}
    settings = {} if scaling is None else scaling.model_dump(exclude_none=True)
    kind = settings.pop("rope_type", "default")
    return {"rope_type": kind, "rope_theta": theta, **settings}


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--ids", type=Path, required=True)
    parser.add_argument("--length", type=int, default=8192)
    parser.add_argument("--rope", nargs="*", default=["ntk:auto", "linear:2", "yarn:2"])
    parser.add_argument("--transformers", action="store_true")
    arguments = parser.parse_args()
    config = load_config(arguments.model)
    texts = read_ids(arguments.ids)
    ids = [token for text in texts for token in text][: arguments.length]
    edges = [0, *(len(ids) >> shift for shift in (4, 3, 2, 1, 0))]
    stretches = [f"{start + 1:,} to {end:,}" for start, end in pairwise(edges)]
    print(f"| positions | {' | '.join(stretches)} |\n|---|{'--:|' * len(stretches)}")
    for rope in (None, *arguments.rope):
        scaled = with_rope(config, rope, len(ids))
        rows = {rope or "as they are": losses(Reference(arguments.model, scaled), ids)}
        if arguments.transformers:
            rows["transformers"] = losses_of_transformers(arguments.model, scaled, ids)
        for name, lost in rows.items():
            cells = [f"{np.exp(lost[start:end].mean()):.3f}" for start, end in pairwise(edges)]
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
