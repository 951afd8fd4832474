"""Who answers the requests of a batch: the seam, and a model in this process.

Answers, refusals and their words are those of the server: the same code makes them.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import uuid4

from pydantic import ValidationError

from runtime.batch.request_line import BatchRequest
from runtime.bundle.reader import Bundle
from runtime.engine.scheduler import Policy
from runtime.engine.sequence import FinishReason
from runtime.errors import UserError
from runtime.progress import Progress
from runtime.server.answers import Answers
from runtime.server.asked import Asked, asked_chat, asked_completion
from runtime.server.errors import HttpError, error_body, first_problem, status_of
from runtime.server.loading import open_model
from runtime.server.protocol import ChatBody, CompletionBody, GenerationBody, unknown_fields
from runtime.server.replies import Reply
from runtime.server.served_model import ServedModel
from runtime.server.wording import ChatWording, TextWording, Wording
from runtime.timing import now

__all__ = ["Answerer", "OnModel", "Opening", "Outcome", "open_for_batch"]

log = logging.getLogger("runtime.batch")
NEVER = float("inf")  # a request of a batch may wait as long as it takes
AHEAD = 2  # requests in flight for each that runs: one is ready when another ends


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What a model is opened with; see ModelSettings."""

    model_names: tuple[str, ...]
    devices: tuple[int, ...]
    threads: int | None
    max_prompt_tokens: int = 1 << 60  # a batch hands over no more than can be begun soon


def open_for_batch(bundle: Bundle, opening: Opening, progress: Progress) -> ServedModel:
    """A model that nobody reads along, so that prompts go first: more sequences in each step.

    Raises:
        BundleError: a file in the bundle cannot be used.
        SessionError: the backend cannot run it.
    """
    return open_model(bundle, opening, progress, Policy(prefill_first=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a request has come to.

    status: 200, or that of the error which body then holds.
    """

    status: int
    request_id: str
    body: Mapping[str, Any]
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Answerer(Protocol):
    """Answers requests."""

    @property
    def num_at_once(self) -> int:
        """Requests that it should be given before it has answered the first."""

    async def answer(self, request: BatchRequest) -> Outcome:
        """What a request comes to; also where it is refused.

        Raises:
            Exception: nobody answers any more.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """What is behind a url."""

    body: type[GenerationBody]
    asked: Callable[[Any], Asked]
    wording: Callable[[ServedModel, Asked], Wording]


ENDPOINTS = {
    "/v1/chat/completions": Endpoint(
        body=ChatBody, asked=asked_chat, wording=lambda model, _: ChatWording(model)
    ),
    "/v1/completions": Endpoint(body=CompletionBody, asked=asked_completion, wording=TextWording),
}


class OnModel:
    """A model in this process."""

    def __init__(self, model: ServedModel) -> None:
        self._model = model

    @property
    def num_at_once(self) -> int:
        """See Answerer."""
        engines = self._model.engines
        return AHEAD * engines.engine.cache.num_lanes * len(engines.each)

    async def answer(self, request: BatchRequest) -> Outcome:
        """See Answerer."""
        request_id = uuid4().hex
        try:
            reply = await self._reply(request)
        except Exception as error:
            if self._model.engines.failure is not None:
                raise self._model.engines.failure from error
            if not isinstance(error, UserError):
                log.exception("request id %s", request_id)
            body = error_body(error, request_id)
            return Outcome(status=status_of(error), request_id=request_id, body=body)
        content = reply.model_dump(mode="json")
        usage = content["usage"]
        return Outcome(
            status=200,
            request_id=request_id,
            body=content,
            prompt_tokens=usage["prompt_tokens"],
            completion_tokens=usage["completion_tokens"],
        )

    async def _reply(self, request: BatchRequest) -> Reply:
        """The answer, by the steps of the server.

        Raises:
            UserError: the request is refused, or an answer has failed.
        """
        model, endpoint = self._model, ENDPOINTS[request.url]
        try:
            body = endpoint.body.model_validate(request.body)
        except ValidationError as error:
            raise first_problem(error.errors()) from error
        model.check_name(body.model)
        unknown_fields(body)
        if body.stream:
            raise HttpError(
                "a batch has no streams",
                next_step="leave stream out",
                code="unsupported_parameter",
                param="stream",
            )
        asked = endpoint.asked(body)
        answers = Answers(model, asked, model.prepare(asked, NEVER), now(), _NoCounts())
        try:
            pieces = [piece async for piece in answers.pieces(NEVER) if piece is not None]
            return endpoint.wording(model, asked).whole(pieces, answers)
        finally:
            answers.close()


class _NoCounts:
    """See Counts; nobody asks a batch for metrics."""

    def took_prompts(self, num_tokens: int) -> None:
        """See Counts."""

    def made_first_token(self, queued: float, taken: float) -> None:
        """See Counts."""

    def made_token(self, taken: float) -> None:
        """See Counts."""

    def ended(
        self, finish_reason: FinishReason, taken: float, prompt_tokens: int, tokens: int
    ) -> None:
        """See Counts."""

    def cancelled_in(self, phase: str) -> None:
        """See Counts."""

    def failed(self, error: Exception) -> None:
        """See Counts."""
