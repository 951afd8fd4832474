"""Perplexity of a checkpoint beyond its length, by how its positions are scaled.

Texts follow each other up to so many tokens. The float32 reference of torch, as `verify` takes it,
gives the perplexity of each stretch of positions.

Usage: long_positions.py MODEL --ids FILE [--length 8192] [--rope ntk:auto ...]
"""

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.config import load_config
from export.reference import Reference
from export.rope_settings import with_rope
from toolchain.token_ids import read_ids

BLOCK = 512  # rows of logits at a time


def losses(reference: Reference, ids: list[int]) -> NDArray[np.float64]:
    """Negative log-likelihood of each next token, (S - 1,)."""
    [hidden] = reference.hidden([ids])
    found = []
    for start in range(0, len(ids) - 1, BLOCK):
        logits = reference.logits(hidden[start : start + BLOCK]).astype(np.float64)
        following = ids[start + 1 : start + 1 + BLOCK]
        logits = logits[: len(following)]
        peaks = logits.max(1, keepdims=True)
        sums = np.log(np.exp(logits - peaks).sum(1)) + peaks[:, 0]
        found.append(sums - logits[np.arange(len(following)), following])
    return np.concatenate(found)


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--ids", type=Path, required=True)
    parser.add_argument("--length", type=int, default=8192)
    parser.add_argument("--rope", nargs="*", default=["ntk:auto", "linear:2", "yarn:2"])
    arguments = parser.parse_args()
    config = load_config(arguments.model)
    texts = read_ids(arguments.ids)
    ids = [token for text in texts for token in text][: arguments.length]
    edges = [0, *(len(ids) >> shift for shift in (4, 3, 2, 1, 0))]
    stretches = [f"{start + 1:,} to {end:,}" for start, end in pairwise(edges)]
    print(f"| positions | {' | '.join(stretches)} |\n|---|{'--:|' * len(stretches)}")
    for rope in (None, *arguments.rope):
        scaled = with_rope(config, rope, len(ids))
        lost = losses(Reference(arguments.model, scaled), ids)
        cells = [f"{np.exp(lost[start:end].mean()):.1f}" for start, end in pairwise(edges)]
        print(f"| {rope or 'as they are'} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
