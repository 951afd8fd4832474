"""The routes: what each address answers. Work is done elsewhere."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from importlib.metadata import version
from typing import Any, TypeAlias

from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from starlette.responses import Response

from runtime.server import protocol, replies
from runtime.server.answers import Answers
from runtime.server.asked import Asked, asked_chat, asked_completion, messages_of
from runtime.server.errors import HttpError
from runtime.server.exchange import EventStream, while_connected
from runtime.server.metrics import CONTENT_TYPE
from runtime.server.served_model import ServedModel
from runtime.server.service import Service
from runtime.server.stream import events
from runtime.server.wording import ChatWording, TextWording, Wording
from runtime.text.tokenizer import Tokenizer
from runtime.timing import now

__all__ = ["completion_routes", "model_routes", "state_routes", "tokenizer_routes"]

Responses: TypeAlias = dict[int | str, dict[str, Any]]
Handler: TypeAlias = Callable[[Request], Coroutine[Any, Any, Response]]
SHORT = 4096  # characters that are tokens in less time than a thread takes to begin
EVENT = {  # itemSchema: of one event, as OpenAPI 3.2 has it and FastAPI writes it
    "type": "object",
    "properties": {"data": {"type": "string", "description": "a chunk as JSON; [DONE] at the end"}},
    "required": ["data"],
}
STREAM: Responses = {200: {"content": {"text/event-stream": {"itemSchema": EVENT}}}}
NOT_READY: Responses = {503: {"model": replies.Health}}


def completion_routes(service: Service) -> APIRouter:
    """/v1/completions and /v1/chat/completions."""
    routes = APIRouter(prefix="/v1", route_class=_where_room_is(service))

    @routes.post("/completions", response_model=replies.CompletionObject, responses=STREAM)
    async def complete(request: Request, body: protocol.CompletionBody) -> Response:
        """Goes on with a text."""
        model = service.model()
        model.check_name(body.model)
        service.metrics.unknown_fields.inc(protocol.unknown_fields(body))
        asked = asked_completion(body)
        return await _answered(request, service, model, asked, TextWording(model, asked))

    @routes.post("/chat/completions", response_model=replies.ChatCompletion, responses=STREAM)
    async def chat(request: Request, body: protocol.ChatBody) -> Response:
        """Answers the last message of a conversation."""
        model = service.model()
        model.check_name(body.model)
        service.metrics.unknown_fields.inc(protocol.unknown_fields(body))
        return await _answered(request, service, model, asked_chat(body), ChatWording(model))

    return routes


def _where_room_is(service: Service) -> type[APIRoute]:
    """Routes of a server that, when it is full, refuses before it parses a body."""

    class WhereRoomIs(APIRoute):
        def get_route_handler(self) -> Handler:
            answer = super().get_route_handler()

            async def answer_if_room(request: Request) -> Response:
                service.model()
                service.check_room()
                return await answer(request)

            return answer_if_room

    return WhereRoomIs


async def _answered(
    request: Request, service: Service, model: ServedModel, asked: Asked, wording: Wording
) -> Response:
    with ExitStack() as held:
        held.enter_context(service.admitted(asked.num_answers))
        answer = _answer(request, service, model, asked, wording, held)
        return await while_connected(request.receive, answer)


async def _answer(
    request: Request,
    service: Service,
    model: ServedModel,
    asked: Asked,
    wording: Wording,
    held: ExitStack,
) -> Response:
    """The answer; of a stream, once its first event is there, so that errors have a status."""
    settings, arrived = service.settings, request.state.arrived
    start_by = now() + settings.queue_timeout
    if asked.num_characters <= SHORT and "constraint" not in asked.settings:
        prepared = model.prepare(asked, start_by)
    else:
        prepared = await asyncio.to_thread(model.prepare, asked, start_by)
    answers = Answers(model, asked, prepared, arrived, service.metrics)
    held.callback(answers.close)
    if asked.stream:
        made = events(answers, asked, wording, settings.ping_interval, request.state.request_id)
        first = await anext(made)
        return EventStream(first, made, held.pop_all())
    pieces = [piece async for piece in answers.pieces(settings.ping_interval) if piece is not None]
    request.state.answered = {
        "prompt_tokens": answers.num_prompt_tokens,
        "completion_tokens": answers.num_tokens,
    }
    return _json(wording.whole(pieces, answers))


def model_routes(service: Service) -> APIRouter:
    """What there is to say about the model."""
    routes = APIRouter()

    def card(model: ServedModel, name: str) -> replies.ModelCard:
        return replies.ModelCard(
            id=name,
            created=model.created,
            owned_by="alpaca2-toolchain",
            root=name,
            max_model_len=model.context_len,
        )

    @routes.get("/v1/models")
    async def list_models() -> replies.ModelList:
        """The names of the model."""
        model = service.model()
        return replies.ModelList(data=[card(model, name) for name in model.names])

    @routes.get("/v1/models/{name:path}")
    async def show_model(name: str) -> replies.ModelCard:
        """The model, by one of its names."""
        model = service.model()
        model.check_name(name)
        return card(model, name)

    return routes


def tokenizer_routes(service: Service) -> APIRouter:
    """Its tokenizer."""
    routes = APIRouter()

    @routes.post("/tokenize")
    async def tokenize(body: protocol.TokenizeBody) -> replies.Tokenized:
        """Token ids of a text or of messages. A text that is the name of a token is that token."""
        model = service.model()
        model.check_name(body.model)
        token_ids = await asyncio.to_thread(_tokenize, model, body)
        return replies.Tokenized(
            tokens=token_ids, count=len(token_ids), max_model_len=model.context_len
        )

    @routes.post("/detokenize")
    async def detokenize(body: protocol.DetokenizeBody) -> replies.Detokenized:
        """Text of token ids; control tokens have none."""
        model = service.model()
        model.check_name(body.model)
        text = await asyncio.to_thread(model.tokenizer.decode, body.tokens)
        return replies.Detokenized(prompt=text)

    @routes.get("/tokenizer_info")
    async def tokenizer_info() -> replies.TokenizerInfo:
        """What the control tokens are called."""
        model = service.model()
        tokenizer = model.tokenizer
        return replies.TokenizerInfo(
            tokenizer_class=tokenizer.hf_class,
            bos_token=_name(tokenizer, tokenizer.bos_token_id),
            eos_token=tokenizer.name(tokenizer.eos_token_id),
            unk_token=_name(tokenizer, tokenizer.unk_token_id),
            model_max_length=model.context_len,
        )

    return routes


def _tokenize(model: ServedModel, body: protocol.TokenizeBody) -> list[int]:
    """See the route.

    Raises:
        HttpError, PromptError: neither a prompt nor messages, or both; too long; not valid text.
    """
    if (body.prompt is None) == (body.messages is None):
        raise HttpError("a prompt or messages, one of them", code="invalid_value", param="prompt")
    if body.messages is not None:
        return model.encode(messages_of(body.messages), add_bos=True)
    assert body.prompt is not None, "one of the two"
    tokenizer = model.tokenizer
    control = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id)
    names = {tokenizer.name(each): each for each in control if each is not None}
    add_bos = body.add_special_tokens is not False
    if body.prompt in names:  # lm-evaluation-harness asks for the id of its end token so
        return [*tokenizer.encode("", add_bos=add_bos), names[body.prompt]]
    if not body.prompt:
        return tokenizer.encode("", add_bos=add_bos)
    return model.encode(body.prompt, add_bos=add_bos)


def _name(tokenizer: Tokenizer, token_id: int | None) -> str | None:
    return None if token_id is None else tokenizer.name(token_id)


def state_routes(service: Service) -> APIRouter:
    """Whether the server lives and answers, what runs, and its metrics."""
    routes = APIRouter()

    def health(state: replies.Health, *, good: bool) -> Response:
        return _json(state, 200 if good else 503)

    def state() -> replies.Health:
        loading = service.state == "loading"
        progress = service.progress
        return replies.Health(
            status=service.state,
            step=progress.current if loading else None,
            progress=progress.fraction if loading else None,
        )

    @routes.get("/health", response_model=replies.Health, responses=NOT_READY)
    @routes.get("/health/ready", response_model=replies.Health, responses=NOT_READY)
    async def ready() -> Response:
        """200 when requests are answered; 503 while loading, with how far it is, and draining."""
        return health(state(), good=service.state == "ready")

    @routes.get("/health/live", response_model=replies.Health, responses=NOT_READY)
    async def live() -> Response:
        """503 when only a new start helps."""
        return health(state(), good=service.state != "failed")

    @routes.get("/version")
    async def show_version() -> replies.Version:
        """What runs."""
        model = service.loaded
        return replies.Version(
            version=version("alpaca2-toolchain"),
            bundle_sha256=model and model.digest,
            backend=model and model.backend,
        )

    @routes.get("/metrics", responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """For Prometheus."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE)

    return routes


def _json(reply: replies.Reply, status: int = 200) -> Response:
    return Response(reply.model_dump_json(), status_code=status, media_type="application/json")
