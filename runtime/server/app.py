"""The application: routes, guard and errors put together."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp

from runtime.errors import UserError
from runtime.server.description import HEADERS, page
from runtime.server.errors import (
    ClientGoneError,
    HttpError,
    error_body,
    first_problem,
    headers_of,
    status_of,
)
from runtime.server.guard import OPEN, Guard
from runtime.server.keys import read_keys
from runtime.server.page import page_routes
from runtime.server.replies import ErrorBody
from runtime.server.routes import (
    completion_routes,
    model_routes,
    state_routes,
    tokenizer_routes,
)
from runtime.server.service import Service

__all__ = ["create_app"]

ABOUT = "OpenAI's API for one model on one box. Docs: docs/serve.md."
ERRORS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": ErrorBody, "description": "The request cannot be answered"},
    "5XX": {"model": ErrorBody, "description": "The server cannot answer, now or at all"},
}
KEY_SCHEME = {"type": "http", "scheme": "bearer"}


def create_app(service: Service) -> ASGIApp:
    """The ASGI application of a service, which begins to load with it.

    Raises:
        ParameterError: the file of keys cannot be used.
    """
    keys = read_keys(service.settings.api_key_file)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield

    app = Application(
        asks_for_keys=keys.are_needed,
        title="alpaca2-toolchain",
        description=ABOUT,
        version=version("alpaca2-toolchain"),
        docs_url=None,  # they load scripts from elsewhere, which a box cannot reach
        redoc_url=None,
        responses=ERRORS,
        lifespan=lifespan,
    )
    for routes in (completion_routes, model_routes, tokenizer_routes, state_routes):
        app.include_router(routes(service))
    app.include_router(page_routes())
    _describe(app)
    _handle_errors(app, service)
    return Guard(
        app,
        keys=keys,
        allowed_hosts=service.settings.allowed_hosts,
        max_body_bytes=service.settings.max_body_bytes,
        metrics=service.metrics,
    )


class Application(FastAPI):
    """FastAPI whose description says which addresses ask for a key, as the guard does."""

    def __init__(self, *, asks_for_keys: bool, **options: Any) -> None:
        super().__init__(**options)
        self._asks_for_keys = asks_for_keys

    def openapi(self) -> dict[str, Any]:
        """The description, made once."""
        if self.openapi_schema is None and self._asks_for_keys:
            described = super().openapi()
            described["components"]["securitySchemes"] = {"key": KEY_SCHEME}
            for path in described["paths"].keys() - OPEN:
                for operation in described["paths"][path].values():
                    operation["security"] = [{"key": []}]
        return super().openapi()


def _describe(app: FastAPI) -> None:
    @app.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return HTMLResponse(page(app.openapi()), headers=HEADERS)


def _handle_errors(app: FastAPI, service: Service) -> None:
    """Gives every error the body of OpenAI's."""

    def reply(request: Request, error: Exception) -> Response:
        body = error_body(error, request.state.request_id)
        service.metrics.rejected.labels(body["error"]["code"]).inc()
        return ErrorResponse(body, status_code=status_of(error), headers=headers_of(error))

    async def user_error(request: Request, error: Exception) -> Response:
        return reply(request, error)

    async def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first, *_ = error.errors()
        within = [part for part in first["loc"] if part != "body"]
        return reply(request, first_problem([{**first, "loc": within}]))

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        answer = reply(request, _of_starlette(error))
        answer.headers.update(error.headers or {})
        return answer

    async def gone(_: Request, __: Exception) -> Response:
        return Response(status_code=499)  # nobody reads it but the log

    app.add_exception_handler(UserError, user_error)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(ClientGoneError, gone)
    app.add_exception_handler(Exception, user_error)


class ErrorResponse(JSONResponse):
    """JSON that any text of a client can be put into."""

    def render(self, content: Any) -> bytes:
        """See Response; a lone surrogate is written as JSON escapes it."""
        return json.dumps(content, ensure_ascii=False).encode(errors="backslashreplace")


def _of_starlette(error: HTTPException) -> HttpError:
    if error.status_code == 404:
        return HttpError("there is nothing at this address", code="no_such_route")
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow")
        return HttpError("not with this method", allowed=allowed, code="method_not_allowed")
    return HttpError("the body is no JSON", got=error.detail, code="invalid_value")
