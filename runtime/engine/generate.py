"""The token loop: prompt ids in, a stream of token ids out. Knows the stop rules, not text."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Literal

from runtime.engine.engine import Engine
from runtime.errors import PromptError
from runtime.sampling.params import SamplingParams
from runtime.sampling.sampler import Sampler, make_rng, top_logprobs
from runtime.timing import now

__all__ = ["FinishReason", "Token", "generate"]

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One generated token.

    logits_at and sampled_at are moments of the process's clock, in seconds.
    """

    id: int
    finish_reason: FinishReason | None  # of the last token only
    logprob: float | None
    top_logprobs: list[tuple[int, float]]
    logits_at: float
    sampled_at: float


def generate(
    engine: Engine, prompt_ids: Sequence[int], params: SamplingParams, shared: int = 0
) -> Generator[Token, None, None]:
    """Generates until a stop token, max_tokens or else max_length, or the cache is full.

    Every row of the cache is used: a prompt of n tokens leaves room for cache_len - n + 1 new
    ones, since the last token needs no row. The stop token itself is the last one yielded.
    `shared` is as in Engine.prefill.

    Raises:
        PromptError: the prompt is empty or longer than the cache.
        ParameterError: a token id in the parameters is not in the vocabulary.
        SessionError: the model gave unusable numbers.
    """
    engine.check_prompt(prompt_ids)  # before the sampler counts its ids
    max_tokens = _max_tokens(params, len(prompt_ids))
    sampler = Sampler(params, prompt_ids, engine.vocab_size, make_rng(params.seed))
    stop_ids = frozenset() if params.ignore_eos else frozenset(params.stop_token_ids)
    with engine.slot(prompt_ids) as slot:
        logits = engine.prefill(slot, prompt_ids, shared)
        num_tokens = 0
        while True:
            logits_at = now()
            token_id = sampler.sample(logits)
            num_tokens += 1
            finish_reason: FinishReason | None = None
            if token_id in stop_ids:
                finish_reason = "stop"
            elif num_tokens == max_tokens or slot.room == 0:
                finish_reason = "length"
            logprob, alternatives = None, list[tuple[int, float]]()
            if params.logprobs is not None:
                logprob, alternatives = top_logprobs(logits, token_id, params.logprobs)
            yield Token(
                id=token_id,
                finish_reason=finish_reason,
                logprob=logprob,
                top_logprobs=alternatives,
                logits_at=logits_at,
                sampled_at=now(),
            )
            if finish_reason is not None:
                return
            logits = engine.decode([slot], [token_id])[0]


def _max_tokens(params: SamplingParams, prompt_tokens: int) -> int | None:
    """How many tokens the settings allow after such a prompt; None for any number."""
    if params.max_tokens is not None or params.max_length is None:
        return params.max_tokens
    room = params.max_length - prompt_tokens
    if room < 1:
        raise PromptError(
            "the prompt leaves no room for an answer within max_length",
            got=f"{prompt_tokens} tokens",
            allowed=f"up to {params.max_length - 1}",
            next_step="shorten it, or set max_tokens",
        )
    return room
