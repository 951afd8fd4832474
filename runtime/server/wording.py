"""Answers in the words of the two APIs: as events of a stream, or as one object.

A Wording makes an event of a piece, and an object of all pieces.
"""

import time
from collections.abc import Sequence
from typing import Protocol
from uuid import uuid4

from runtime.engine.sequence import Token
from runtime.server.answers import Answers, Choice, Piece
from runtime.server.asked import Asked
from runtime.server.logprobs import LegacyReport, chat_report, joined
from runtime.server.replies import (
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatCompletion,
    ChatDelta,
    ChatMessageOut,
    CompletionChoice,
    CompletionObject,
    Envelope,
    LegacyLogprobs,
    Reply,
    Usage,
)
from runtime.server.served_model import ServedModel

__all__ = ["ChatWording", "TextWording", "Wording", "usage_of"]


class Wording(Protocol):
    """The words of one API."""

    def event(self, piece: Piece, usage: Usage | None) -> Reply:
        """An event with a piece."""

    def usage_event(self, usage: Usage) -> Reply:
        """The last event, with no piece."""

    def whole(self, pieces: Sequence[Piece], answers: Answers) -> Reply:
        """The object of a plain answer, of all its pieces."""


def usage_of(answers: Answers, *, no_answer: bool = False) -> Usage:
    """Tokens so far."""
    prompt, completion = answers.num_prompt_tokens, 0 if no_answer else answers.num_tokens
    return Usage(
        prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion
    )


def _envelope(model: ServedModel, prefix: str) -> dict[str, str | int]:
    return Envelope(
        id=f"{prefix}-{uuid4().hex}",
        created=int(time.time()),
        model=model.name,
        system_fingerprint=model.fingerprint,
    ).model_dump()


class TextWording:
    """Of /v1/completions."""

    def __init__(self, model: ServedModel, asked: Asked) -> None:
        self._model, self._asked = model, asked
        self._envelope = _envelope(model, "cmpl")
        self._reports: dict[int, LegacyReport] = {}
        self._echoed: set[int] = set()

    def event(self, piece: Piece, usage: Usage | None) -> Reply:
        """See Wording; the first piece of a choice has the prompt before it, where asked for."""
        text, index = piece.text, piece.choice.index
        if self._asked.echo and index not in self._echoed:
            self._echoed.add(index)
            text = (piece.choice.prepared.text or "") + text
        logprobs = self._report(piece.choice).answer(piece.tokens)
        choice = CompletionChoice(
            index=index,
            text=text,
            finish_reason=piece.finish_reason,
            logprobs=logprobs,
            stop_reason=piece.stop_reason,
        )
        return self._object([choice], usage)

    def usage_event(self, usage: Usage) -> Reply:
        """See Wording."""
        return self._object([], usage)

    def whole(self, pieces: Sequence[Piece], answers: Answers) -> Reply:
        """See Wording."""
        choices = []
        for choice in answers.choices:
            own = [piece for piece in pieces if piece.choice is choice]
            text = "" if self._asked.no_answer else "".join(piece.text for piece in own)
            choices.append(
                CompletionChoice(
                    index=choice.index,
                    text=(choice.prepared.text or "") + text,
                    finish_reason="length" if self._asked.no_answer else own[-1].finish_reason,
                    logprobs=self._logprobs(choice, [t for piece in own for t in piece.tokens]),
                    stop_reason=own[-1].stop_reason,
                )
            )
        return self._object(choices, usage_of(answers, no_answer=self._asked.no_answer))

    def _report(self, choice: Choice) -> LegacyReport:
        if choice.index not in self._reports:
            tokenizer = self._model.tokenizer
            self._reports[choice.index] = LegacyReport(tokenizer, at_start=self._asked.echo)
        return self._reports[choice.index]

    def _logprobs(self, choice: Choice, tokens: list[Token]) -> LegacyLogprobs | None:
        report = self._report(choice)
        if self._asked.num_prompt_logprobs is None:
            return report.answer(tokens)
        prompt = report.prompt(choice.prepared.prompt_ids, choice.prompt_logprobs)
        return joined(prompt, None if self._asked.no_answer else report.answer(tokens))

    def _object(self, choices: list[CompletionChoice], usage: Usage | None) -> CompletionObject:
        return CompletionObject(**self._envelope, choices=choices, usage=usage)


class ChatWording:
    """Of /v1/chat/completions."""

    def __init__(self, model: ServedModel) -> None:
        self._model = model
        self._envelope = _envelope(model, "chatcmpl")
        self._begun: set[int] = set()

    def event(self, piece: Piece, usage: Usage | None) -> Reply:
        """See Wording; the first piece of a choice has the role."""
        index = piece.choice.index
        role = None if index in self._begun else "assistant"
        self._begun.add(index)
        choice = ChatChunkChoice(
            index=index,
            delta=ChatDelta(role="assistant" if role else None, content=piece.text),
            finish_reason=piece.finish_reason,
            logprobs=chat_report(self._model.tokenizer, piece.tokens),
            stop_reason=piece.stop_reason,
        )
        return ChatChunk(**self._envelope, choices=[choice], usage=usage)

    def usage_event(self, usage: Usage) -> Reply:
        """See Wording."""
        return ChatChunk(**self._envelope, choices=[], usage=usage)

    def whole(self, pieces: Sequence[Piece], answers: Answers) -> Reply:
        """See Wording."""
        choices = []
        for choice in answers.choices:
            own = [piece for piece in pieces if piece.choice is choice]
            finish_reason = own[-1].finish_reason
            assert finish_reason is not None, "all pieces are there"
            tokens = [token for piece in own for token in piece.tokens]
            choices.append(
                ChatChoice(
                    index=choice.index,
                    message=ChatMessageOut(content="".join(piece.text for piece in own)),
                    finish_reason=finish_reason,
                    logprobs=chat_report(self._model.tokenizer, tokens),
                    stop_reason=own[-1].stop_reason,
                )
            )
        return ChatCompletion(**self._envelope, choices=choices, usage=usage_of(answers))
