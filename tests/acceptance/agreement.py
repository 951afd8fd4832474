"""Greedy tokens of two sessions, and how close the best logits were where they part."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from runtime.engine.engine import Engine
from runtime.engine.generate import generate
from runtime.engine.kv_cache import common_prefix
from runtime.engine.scheduler import Scheduler
from runtime.engine.sequence import Request
from runtime.sampling.params import SamplingParams
from runtime.sessions import Session

__all__ = ["Agreement", "agreement", "greedy_tokens"]

Tokens = Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Two sets of answers beside each other.

    same: answers without a difference.
    tokens: that are equal, up to where an answer parts.
    gap: in the reference, between its token and the other's where they part, in spacings of
        float16 at the better of the two; the largest of all answers.
    """

    answers: int
    same: int
    tokens: int
    gap: float


def greedy_tokens(session: Session, prompts: Tokens, num_tokens: int) -> list[list[int]]:
    """The answers of a session, which is closed."""
    params = SamplingParams(max_tokens=num_tokens, ignore_eos=True)
    with closing(session):
        scheduler = Scheduler(Engine(session))
        requests = [Request(prompt_ids=list(prompt), params=params) for prompt in prompts]
        return [[token.id for token in generate(scheduler, request)] for request in requests]


def agreement(reference: Session, prompts: Tokens, expected: Tokens, said: Tokens) -> Agreement:
    """Compares answers with those of the reference, which computes again where they part."""
    engine = Engine(reference)
    lengths = [common_prefix(ours, theirs) for ours, theirs in zip(said, expected, strict=True)]
    gaps = [0.0]
    for prompt, ours, theirs, same in zip(prompts, said, expected, lengths, strict=True):
        if same < len(theirs):
            ids = [*prompt, *theirs[:same]]
            with engine.slot(ids) as slot:
                logits = engine.prefill(slot, ids)
            best = logits[theirs[same]]
            gaps.append(float((best - logits[ours[same]]) / np.spacing(np.float16(abs(best)))))
    whole = [same == len(theirs) for same, theirs in zip(lengths, expected, strict=True)]
    return Agreement(answers=len(said), same=sum(whole), tokens=sum(lengths), gap=max(gaps))
