"""Prompts from documents, and what a bundle continues them with."""

import json
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.bundle.reader import Bundle
from runtime.engine.engine import Engine
from runtime.engine.generate import generate
from runtime.engine.scheduler import Scheduler
from runtime.engine.sequence import Request
from runtime.sampling.params import SamplingParams
from runtime.sessions import open_session

__all__ = ["continuations", "prompts"]


def prompts(checkpoint: Path, number: int) -> list[list[int]]:
    """Prompts of 40 tokens in turn from the start and the middle of documents.

    Args:
        checkpoint: with documents that the model has not seen.
        number: of prompts, at most.
    """
    documents = json.loads((checkpoint / "held_out_ids.json").read_text())
    long = [ids for ids in documents if len(ids) > 100]
    starts = [ids[:40] for ids in long]
    middles = [ids[len(ids) // 2 :][:40] for ids in long]
    return [prompt for pair in zip(starts, middles, strict=True) for prompt in pair][:number]


def continuations(
    bundle: Bundle, asked: list[list[int]], num_tokens: int
) -> tuple[list[int], NDArray[np.float32]]:
    """Greedy tokens of all answers one after the other, and their logits (tokens, vocab)."""
    params = SamplingParams(max_tokens=num_tokens, ignore_eos=True)
    with closing(open_session(bundle)) as session:
        scheduler = Scheduler(Engine(session))
        tokens = [
            token
            for ids in asked
            for token in generate(
                scheduler, Request(prompt_ids=ids, params=params, keep_logits=True)
            )
        ]
    logits = [token.logits for token in tokens if token.logits is not None]
    return [token.id for token in tokens], np.stack(logits)
