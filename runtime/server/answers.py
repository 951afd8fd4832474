"""The answers to one request, from the engine's thread to text that has become certain.

A Piece is text and the tokens that brought it; a stream sends one event a piece, and a plain answer
is the pieces put together, so both say the same.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from runtime.completion import AnswerText, StopReason
from runtime.engine.loop import Stream
from runtime.engine.sequence import FinishReason, PromptLogprobs, Token
from runtime.server.asked import Asked
from runtime.server.served_model import Prepared, ServedModel
from runtime.timing import now

__all__ = ["Answers", "Choice", "Counts", "Piece"]


class Counts(Protocol):
    """Receives what happens to answers. Times are in seconds."""

    def took_prompts(self, num_tokens: int) -> None:
        """The prompts of a request are with the engine."""

    def made_first_token(self, queued: float, taken: float) -> None:
        """An answer has begun: how long it waited for a slot, and for this token."""

    def made_token(self, taken: float) -> None:
        """Another token, so long after the one before."""

    def ended(
        self, finish_reason: FinishReason, taken: float, prompt_tokens: int, tokens: int
    ) -> None:
        """An answer is complete."""

    def cancelled_in(self, phase: str) -> None:
        """Nobody waits for an answer any more."""

    def failed(self, error: Exception) -> None:
        """An answer has ended with an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Text of one answer; finish_reason is that of its last piece only."""

    choice: "Choice"
    text: str
    tokens: list[Token]
    finish_reason: FinishReason | None
    stop_reason: StopReason | None


@dataclass(slots=True, kw_only=True)
class Choice:
    """One answer on its way.

    held: tokens whose text is not certain yet.
    last_at: when its last token was made; 0 before the first.
    """

    index: int
    prepared: Prepared
    stream: Stream
    text: AnswerText
    num_tokens: int = 0
    ended: bool = False
    held: list[Token] = field(default_factory=list)
    last_at: float = 0.0

    @property
    def prompt_logprobs(self) -> PromptLogprobs:
        """Of the prompt's tokens, once there is a token."""
        sequence = self.stream.sequence
        return [] if sequence is None else sequence.prompt_logprobs

    @property
    def phase(self) -> str:
        """Where it is on its way."""
        if self.num_tokens:
            return "decode"
        sequence = self.stream.sequence
        return "queue" if sequence is None or sequence.slot is None else "prefill"


class Answers:
    """The answers to one request; `close` ends what is left of them.

    Args:
        model: that answers.
        asked: what was asked.
        prepared: its prompts.
        arrived: when the request did.
        counts: told what happens.

    Raises:
        SessionError: the engine takes no more.
    """

    def __init__(
        self,
        model: ServedModel,
        asked: Asked,
        prepared: list[Prepared],
        arrived: float,
        counts: Counts,
    ) -> None:
        self._model, self._counts, self._arrived = model, counts, arrived
        self._stops = frozenset(model.defaults.stop_token_ids)
        self._changed = asyncio.Event()
        notify = _waker(asyncio.get_running_loop(), self._changed)
        self.choices: list[Choice] = []
        try:
            for each in prepared:
                loop = model.engines.least_busy()  # of all answers: the prompt is run once
                for request in each.requests:
                    text = AnswerText(model.tokenizer, asked.stop, at_start=each.at_start)
                    stream = loop.submit(request, notify)
                    index = len(self.choices)
                    self.choices.append(
                        Choice(index=index, prepared=each, stream=stream, text=text)
                    )
        except BaseException:
            self.close()
            raise
        counts.took_prompts(sum(len(each.prompt_ids) for each in prepared))

    async def pieces(self, ping_interval: float) -> AsyncGenerator[Piece | None, None]:
        """Yields pieces as they are made, and None where none came for a while.

        Raises:
            UserError: what ended an answer before its time.
        """
        while any(not choice.ended for choice in self.choices):
            self._changed.clear()
            came = False
            for choice in self.choices:
                for piece in self._take(choice):
                    came = True
                    yield piece
            if came:
                continue
            try:
                async with asyncio.timeout(ping_interval):
                    await self._changed.wait()
            except TimeoutError:
                yield None

    def _take(self, choice: Choice) -> Iterator[Piece]:
        if choice.ended:
            return
        try:
            tokens, _ = choice.stream.take()
        except Exception as error:
            choice.ended = True
            self._counts.failed(error)
            raise
        for token in tokens:
            piece = self._read(choice, token)
            if piece is not None:
                yield piece
            if choice.ended:
                return

    def _read(self, choice: Choice, token: Token) -> Piece | None:
        """The piece that a token makes complete."""
        self._time(choice, token)
        choice.held.append(token)
        choice.num_tokens += 1
        text = choice.text.add(token)
        finish_reason = choice.text.finish_reason
        if not text and finish_reason is None:
            return None
        tokens, choice.held = choice.held, []
        stop_reason = choice.text.stop_reason
        if finish_reason is not None:
            self._end(choice, finish_reason)
            stop_reason = None if stop_reason in self._stops else stop_reason
        return Piece(
            choice=choice,
            text=text,
            tokens=tokens,
            finish_reason=finish_reason,
            stop_reason=stop_reason,
        )

    def _time(self, choice: Choice, token: Token) -> None:
        if choice.last_at:
            self._counts.made_token(token.sampled_at - choice.last_at)
        else:
            sequence = choice.stream.sequence
            assert sequence is not None, "it has a token"
            queued = sequence.placed_at - self._arrived
            self._counts.made_first_token(queued, token.sampled_at - self._arrived)
        choice.last_at = token.sampled_at

    def _end(self, choice: Choice, finish_reason: FinishReason) -> None:
        choice.ended = True
        choice.stream.cancel()  # a stop string ends it before the engine knows
        num_prompt_tokens = len(choice.prepared.prompt_ids)
        taken = now() - self._arrived
        self._counts.ended(finish_reason, taken, num_prompt_tokens, choice.num_tokens)

    def close(self) -> None:
        """Ends the answers that are still on their way; their slots are free after one call."""
        for choice in self.choices:
            if not choice.ended:
                self._counts.cancelled_in(choice.phase)
                choice.ended = True
                choice.stream.cancel()

    @property
    def num_prompt_tokens(self) -> int:
        """Tokens of all prompts."""
        unique = {id(each.prepared): each.prepared for each in self.choices}
        return sum(len(each.prompt_ids) for each in unique.values())

    @property
    def num_tokens(self) -> int:
        """Tokens of all answers so far."""
        return sum(choice.num_tokens for choice in self.choices)


def _waker(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> Callable[[], None]:
    """What the engine's thread calls to wake the one that waits."""

    def wake() -> None:
        with suppress(RuntimeError):  # the loop has closed: nobody waits
            loop.call_soon_threadsafe(event.set)

    return wake
