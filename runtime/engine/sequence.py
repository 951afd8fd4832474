"""One request on its way through the engine: its settings, its tokens and how it ended."""

from collections import deque
from collections.abc import Sequence as SequenceOf
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from runtime.engine.engine import Part
from runtime.engine.kv_cache import Slot
from runtime.engine.speculation import Drafter
from runtime.errors import PromptError
from runtime.sampling.constraint import StartConstraint
from runtime.sampling.params import SamplingParams
from runtime.sampling.sampler import Sampler, make_rng, top_logprobs
from runtime.sessions.base import Logits
from runtime.timing import now

__all__ = ["FinishReason", "Logprobs", "PromptLogprobs", "Request", "Sequence", "Token"]

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Logprobs:
    """The log-probability of a token, and the likeliest ids in its place with theirs."""

    logprob: float
    top: list[tuple[int, float]]


PromptLogprobs: TypeAlias = list[Logprobs | None]  # one per prompt token; the first has none


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One generated token.

    finish_reason and stop_reason are those of the last token only; stop_reason is the id that
    stopped the answer, None where a constraint left nothing to follow. logits_at and sampled_at
    are moments of the process's clock, in seconds.
    logits: float32 (V,), where the request asked for them.
    """

    id: int
    finish_reason: FinishReason | None
    stop_reason: int | None
    logprobs: Logprobs | None
    logits_at: float
    sampled_at: float
    logits: Logits | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked of the engine.

    shared: as in Engine.parts.
    prompt_logprobs: likeliest ids to report beside each prompt token; None for no report. Such a
        prompt reuses no rows, since it needs the logits of all.
    keep_logits: whether each Token brings its logits.
    start_constraint: makes the constraint of params, compiled, for one answer. The answer ends
        where nothing can follow, and tokens to stop at stop it even with ignore_eos: they are
        allowed only where it may end.
    start_by, finish_by: moments of the process's clock after which it is refused, or ended.
    """

    prompt_ids: SequenceOf[int]
    params: SamplingParams
    shared: int = 0
    prompt_logprobs: int | None = None
    keep_logits: bool = False
    start_constraint: StartConstraint | None = None
    start_by: float = float("inf")
    finish_by: float = float("inf")


@dataclass(slots=True)
class Sequence:
    """A request that the scheduler has taken.

    token_ids: prompt and answer.
    parts: of the prompt, still to run.
    tokens: made and not yet taken by `take`.
    placed_at: when it got its slot, a moment of the process's clock; 0 before that.
    ended: whether it is over: by a finish_reason, an error, or because it was aborted.
    """

    request: Request
    sampler: Sampler
    max_tokens: int | None
    stop_ids: frozenset[int]
    token_ids: list[int]
    slot: Slot | None = None
    placed_at: float = 0.0
    parts: deque[Part] = field(default_factory=deque)
    tokens: list[Token] = field(default_factory=list)
    prompt_logprobs: PromptLogprobs = field(default_factory=list)
    drafter: Drafter | None = None
    ended: bool = False
    error: Exception | None = None

    @classmethod
    def of(cls, request: Request, vocab_size: int) -> "Sequence":
        """Makes the sampler of a request.

        Raises:
            PromptError: the prompt leaves no room for an answer within max_length.
            ParameterError: a token id in the parameters is not in the vocabulary.
        """
        params, prompt_ids = request.params, request.prompt_ids
        constraint = request.start_constraint() if request.start_constraint else None
        ignores_stops = params.ignore_eos and constraint is None
        return cls(
            request=request,
            sampler=Sampler(params, prompt_ids, vocab_size, make_rng(params.seed), constraint),
            max_tokens=_max_tokens(params, len(prompt_ids)),
            stop_ids=frozenset() if ignores_stops else frozenset(params.stop_token_ids),
            token_ids=list(prompt_ids),
        )

    @property
    def num_tokens(self) -> int:
        """Tokens of the answer so far."""
        return len(self.token_ids) - len(self.request.prompt_ids)

    @property
    def most_drafts(self) -> int:
        """Drafts after the last token that could still become part of the answer."""
        assert self.slot is not None, "it runs"
        room = self.slot.room - 1
        if self.max_tokens is not None:
            room = min(room, self.max_tokens - self.num_tokens - 1)
        return max(0, room)

    def take(self) -> list[Token]:
        """The tokens made since the last call.

        Raises:
            UserError: what ended it, once all tokens before that are taken.
        """
        tokens, self.tokens = self.tokens, []
        if not tokens and self.error is not None:
            raise self.error
        return tokens

    def accept(self, logits: Logits, rows_left: int) -> int:
        """Chooses the next token of the answer.

        Args:
            logits: float32 (V,).
            rows_left: of the cache, for this token and more.

        Returns:
            Its id.

        Raises:
            SessionError: the logits are not usable, or the constraint is at a dead end.
        """
        params, logits_at = self.request.params, now()
        token_id = self.sampler.sample(logits)
        self.token_ids.append(token_id)
        finish_reason: FinishReason | None = None
        stops = token_id in self.stop_ids
        if stops or self.sampler.ended:
            finish_reason = "stop"
        elif self.num_tokens == self.max_tokens or rows_left == 0:
            finish_reason = "length"
        logprobs = None
        if params.logprobs is not None:
            logprobs = logprobs_of(logits, token_id, params.logprobs)
        token = Token(
            id=token_id,
            finish_reason=finish_reason,
            stop_reason=token_id if stops else None,
            logprobs=logprobs,
            logits_at=logits_at,
            sampled_at=now(),
            logits=logits.copy() if self.request.keep_logits else None,
        )
        self.tokens.append(token)
        self.ended = finish_reason is not None
        return token_id

    def read_prompt(self, logits: Logits, part: Part) -> None:
        """Notes what the model thought of the prompt's tokens, from a part's logits, (n, V)."""
        top = self.request.prompt_logprobs
        assert top is not None, "only such a prompt is run with all rows"
        if not self.prompt_logprobs:
            self.prompt_logprobs.append(None)
        prompt, start = self.request.prompt_ids, len(self.prompt_logprobs)
        following = prompt[start : start + len(part.token_ids)]
        for row, token_id in zip(logits, following, strict=False):
            self.prompt_logprobs.append(logprobs_of(row, token_id, top))

    def fail(self, error: Exception) -> None:
        """Ends it with an error."""
        self.ended, self.error = True, error


def logprobs_of(logits: Logits, token_id: int, num_top: int) -> Logprobs:
    """The log-probability of an id in a row of logits, (V,)."""
    logprob, top = top_logprobs(logits, token_id, num_top)
    return Logprobs(logprob=logprob, top=top)


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
