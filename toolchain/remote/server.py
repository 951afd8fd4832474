"""A server that is asked one thing after the other: what it serves, and its tokenizer."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import httpx2

from toolchain.errors import RemoteError
from toolchain.remote.address import Address
from toolchain.remote.clients import client
from toolchain.remote.event_stream import EventReader
from toolchain.remote.failure import Failure, of_exception, of_reply, remote_error

__all__ = ["Model", "Server", "open_server"]

BUSY = ("http_429", "http_503")  # will pass
TRIES = 20
MAX_WAIT = 30.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """A model of a server.

    context_len: tokens that prompt and answer may have together; None where it does not say.
    """

    name: str
    context_len: int | None


class Server:
    """Asks a server; may be used by several threads.

    Args:
        client: to the server's root.
        address: where that is.
        sleep: waits so many seconds until a server that is busy is asked again.
    """

    def __init__(
        self, client: httpx2.Client, address: Address, sleep: Callable[[float], None]
    ) -> None:
        self._client, self._address, self._sleep = client, address, sleep

    @property
    def root(self) -> str:
        """Its URL."""
        return self._address.root

    def model(self, name: str | None) -> Model:
        """The model of this name, or the first one.

        Raises:
            RemoteError: there is none, or the server does not answer.
        """
        models = self._models()
        names = [str(model.get("id")) for model in models]
        if not names or (name is not None and name not in names):
            raise RemoteError(
                f"{self.root} has no such model" if name else f"{self.root} names no model",
                got=name,
                allowed=", ".join(names) or None,
                next_step="check --model and the address",
            )
        chosen = models[0 if name is None else names.index(name)]
        length = chosen.get("max_model_len")
        return Model(
            name=str(chosen["id"]), context_len=length if isinstance(length, int) else None
        )

    def _models(self) -> list[dict[str, Any]]:
        listed = self.get("/v1/models").get("data")
        return [each for each in listed if isinstance(each, dict)] if listed else []

    def tokenize(self, text: str) -> list[int] | None:
        """Ids of a text without BOS, as the server's own tokenizer has it; None where it has none.

        vLLM and ours read `prompt`, llama.cpp reads `content`.

        Raises:
            RemoteError: the server does not answer at all.
        """
        body = {"prompt": text, "content": text}
        options = {"add_special_tokens": False, "add_special": False}
        found = self._reply("POST", "/tokenize", {**body, **options})
        tokens = None if isinstance(found, Failure) else found.get("tokens")
        if not isinstance(tokens, list) or not all(type(token) is int for token in tokens):
            return None
        return tokens

    def get(self, path: str) -> dict[str, Any]:
        """The JSON object at a path.

        Raises:
            RemoteError: there is none.
        """
        return self._object("GET", path, None)

    def find(self, path: str) -> dict[str, Any]:
        """The JSON object at a path; {} where the server has none."""
        found = self._reply("GET", path, None)
        return {} if isinstance(found, Failure) else found

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """What the server answers; one that is busy is asked again.

        Raises:
            RemoteError: it does not answer.
        """
        return self._object("POST", path, body)

    @contextmanager
    def events(self, path: str, body: dict[str, Any]) -> Iterator[Iterator[str]]:
        """The events of a streamed answer; leaving ends it.

        Raises:
            RemoteError: it does not answer, or the connection ends.
        """
        try:
            for tried in count(1):
                with self._client.stream("POST", path, json=body) as response:
                    if response.status_code == 200:
                        yield _events(response)
                        return
                    failure = of_reply(response.status_code, response.headers, response.read())
                self._wait(failure, tried)
        except httpx2.HTTPError as error:
            raise remote_error(self.root, of_exception(error)) from error

    def _object(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        tried = 1
        while isinstance(found := self._reply(method, path, body), Failure):
            self._wait(found, tried)
            tried += 1
        return found

    def _wait(self, failure: Failure, tried: int) -> None:
        """Waits as long as a busy server wants.

        Raises:
            RemoteError: it is not busy, or has been for too long.
        """
        if failure.kind not in BUSY or tried == TRIES:
            raise remote_error(self.root, failure)
        self._sleep(min(failure.retry_after or 1.0, MAX_WAIT))

    def _reply(
        self, method: str, path: str, body: dict[str, Any] | None
    ) -> dict[str, Any] | Failure:
        try:
            response = self._client.request(method, path, json=body)
        except httpx2.HTTPError as error:
            raise remote_error(self.root, of_exception(error)) from error
        if response.status_code != 200:
            return of_reply(response.status_code, response.headers, response.content)
        try:
            document = json.loads(response.content)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            return Failure("bad_reply", f"no JSON object at {path}")
        return document


def _events(response: httpx2.Response) -> Iterator[str]:
    reader = EventReader()
    for data in response.iter_bytes():
        yield from reader.feed(data)


@contextmanager
def open_server(address: Address, sleep: Callable[[float], None]) -> Iterator[Server]:
    """Opens connections as they are needed."""
    with client(address) as http:
        yield Server(http, address, sleep)
