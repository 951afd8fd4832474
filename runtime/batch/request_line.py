"""One line of the input as a request, or what is wrong with it.

{"custom_id": ..., "method": "POST", "url": "/v1/chat/completions", "body": {...}}
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runtime.batch.input_file import MAX_LINE_BYTES, Line
from runtime.json_file import first_line
from runtime.server.errors import HttpError, first_problem

__all__ = ["BatchRequest", "Ids", "LineError", "read_request"]


class BatchRequest(BaseModel):
    """What OpenAI's format asks of a line; keys besides these are ignored."""

    model_config = ConfigDict(frozen=True, strict=True)

    custom_id: str = Field(min_length=1)
    method: Literal["POST"]
    url: Literal["/v1/chat/completions", "/v1/completions"]
    body: dict[str, Any]


@dataclass(slots=True)
class LineError(Exception):
    """A line that is no request.

    custom_id: None where it has none, or one that another line has already.
    """

    custom_id: str | None
    error: HttpError


class Ids:
    """Which line has a custom_id. Holds 16 bytes of a hash for each, not the texts."""

    def __init__(self) -> None:
        self._lines: dict[bytes, int] = {}

    def first(self, custom_id: str, number: int) -> int:
        """The first line that has it; this one where no other had."""
        data = custom_id.encode(errors="surrogatepass")
        return self._lines.setdefault(hashlib.blake2b(data, digest_size=16).digest(), number)


def read_request(line: Line, ids: Ids) -> BatchRequest:
    """The request of a line.

    Raises:
        LineError: it is none, or one whose custom_id another line has already.
    """
    content = _content(line)
    custom_id = content.get("custom_id")
    if isinstance(custom_id, str) and custom_id:
        first = ids.first(custom_id, line.number)
        if first != line.number:
            repeated = HttpError(
                "the custom_id is that of another line",
                got=f"{custom_id[:100]!r}, as in line {first}",
                next_step="give each request a custom_id of its own",
                code="invalid_value",
                param="custom_id",
            )
            raise LineError(None, repeated)
    else:
        custom_id = None
    try:
        return BatchRequest.model_validate(content)
    except ValidationError as error:
        raise LineError(custom_id, first_problem(error.errors())) from error


def _content(line: Line) -> dict[str, Any]:
    if line.data is None:
        raise _no_request("the line is too long", allowed=f"up to {MAX_LINE_BYTES} bytes")
    try:
        content = json.loads(line.data)
    except RecursionError as error:
        raise _no_request("the line is no JSON", got="too many levels") from error
    except ValueError as error:
        raise _no_request("the line is no JSON", got=first_line(error)) from error
    if not isinstance(content, dict):
        raise _no_request("the line is no JSON object", got=type(content).__name__)
    return content


def _no_request(what: str, *, got: str | None = None, allowed: str | None = None) -> LineError:
    return LineError(None, HttpError(what, got=got, allowed=allowed, code="invalid_value"))
