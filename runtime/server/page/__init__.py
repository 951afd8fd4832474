"""The chat page: static files, sent with the headers that keep it to itself.

Anybody may read them; what they ask the API for needs a key like any other request.
"""

from hashlib import sha256
from importlib.resources import files

from fastapi import APIRouter, Request
from starlette.responses import Response

__all__ = ["PATHS", "page_routes"]

KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}
NAMES = (
    "index.html",
    "style.css",
    "app.js",
    "api.js",
    "conversation.js",
    "history.js",
    "markdown.js",
    "message.js",
    "settings.js",
    "sidebar.js",
    "words.js",
)
HEADERS = {
    "Cache-Control": "no-cache",  # kept, and asked for again: an upgrade shows at once
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
ADDRESSES = {"/" if name == "index.html" else f"/page/{name}": name for name in NAMES}
PATHS = frozenset(ADDRESSES)


def page_routes() -> APIRouter:
    """/ and the files that it refers to."""
    routes = APIRouter()
    for address, name in ADDRESSES.items():
        routes.add_api_route(address, _File(name), methods=["GET"], include_in_schema=False)
    return routes


class _File:
    """Answers with one of the files, or that it is still the same."""

    def __init__(self, name: str) -> None:
        file = files(__name__).joinpath(name)
        self._content = file.read_bytes()
        self._headers = {**HEADERS, "ETag": f'"{sha256(self._content).hexdigest()[:32]}"'}
        self._type = KINDS[f".{name.rpartition('.')[2]}"]

    async def __call__(self, request: Request) -> Response:
        if request.headers.get("if-none-match") == self._headers["ETag"]:
            return Response(status_code=304, headers=self._headers)
        return Response(self._content, headers=self._headers, media_type=self._type)
