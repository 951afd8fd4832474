"""Claims about asking a server: what it says is read, and what it does not say is named."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.toolchain.remote.fake_server import Fake, Play, answer, fake_server, refuse, stream
from toolchain.errors import RemoteError
from toolchain.remote.address import read_address
from toolchain.remote.server import TRIES, Server, open_server

ASK = {"model": "fake", "prompt": [1], "max_tokens": 1}


def never(seconds: float) -> None:
    pytest.fail(f"waits {seconds} s for a server that is not busy")


@contextmanager
def asking(fake: Fake, waits: list[float]) -> Iterator[Server]:
    with (
        fake_server(fake) as url,
        open_server(read_address(url, None, 10), waits.append) as server,
    ):
        yield server


def test_the_first_model_is_taken_unless_one_is_named() -> None:
    models = ({"id": "one", "max_model_len": 512}, {"id": "two"})
    with asking(Fake(models=models), []) as server:
        first, second = server.model(None), server.model("two")
        assert (first.name, first.context_len) == ("one", 512)
        assert (second.name, second.context_len) == ("two", None)
        with pytest.raises(RemoteError, match="no such model; got three; allowed: one, two"):
            server.model("three")
    with asking(Fake(models=()), []) as server, pytest.raises(RemoteError, match="names no model"):
        server.model(None)


@pytest.mark.parametrize(
    ("others", "expected"),
    [
        ({"/tokenize": {"tokens": [3, 4]}}, [3, 4]),
        ({"/tokenize": {"tokens": ["a"]}}, None),
        ({"/tokenize": {}}, None),
        ({}, None),
    ],
)
def test_a_tokenizer_that_is_not_there_is_none(
    others: dict[str, object], expected: list[int] | None
) -> None:
    with asking(Fake(others=others), []) as server:
        assert server.tokenize("text") == expected


def test_a_busy_server_is_asked_again_when_it_says() -> None:
    plays = (refuse(503, "full", Retry_After="7"), refuse(429, "full"), answer({"good": 1}))
    waits: list[float] = []
    fake = Fake(plays=plays)
    with asking(fake, waits) as server:
        assert server.post("/v1/completions", ASK) == {"good": 1}
    assert (waits, len(fake.asked)) == ([7.0, 1.0], 3)
    waits.clear()
    fake = Fake(plays=(refuse(503, "full", Retry_After="9999"), stream("a")))
    with asking(fake, waits) as server, server.events("/v1/completions", ASK) as events:
        assert len(list(events)) == 3
    assert waits == [30.0]


def test_one_that_stays_busy_is_given_up() -> None:
    fake, waits = Fake(plays=(refuse(503, "full"),)), list[float]()
    with asking(fake, waits) as server:
        with pytest.raises(RemoteError, match="http 503; got full; wait until"):
            server.post("/v1/completions", ASK)
        assert len(fake.asked) == TRIES == len(waits) + 1
        with (
            pytest.raises(RemoteError, match="http 503; got full"),
            server.events("/v1/completions", ASK),
        ):
            pass


@pytest.mark.parametrize(
    ("play", "message"),
    [
        (refuse(400, "too long"), "http 400; got too long"),
        (refuse(404, "no model"), "http 404; got no model; check the address"),
        (refuse(500, "broken"), "http 500; got broken"),
        (lambda handler, _: handler.give(500, b"<p>no\njson"), "http 500; got <p>no json"),
        (lambda handler, _: handler.give(200, b"[1]"), "bad reply; got no JSON object at"),
        (lambda handler, _: handler.give(200, b"[" * 100_000), "bad reply; got no JSON object at"),
        (lambda handler, _: handler.give(200, b"{}", Content_Length="9"), "timed out|disconnected"),
    ],
)
def test_an_answer_that_is_none_is_named(play: Play, message: str) -> None:
    with (
        fake_server(Fake(plays=(play,))) as url,
        open_server(read_address(url, None, 0.5), never) as server,
        pytest.raises(RemoteError, match=message),
    ):
        server.post("/v1/completions", ASK)


def test_a_stream_that_is_cut_is_named_and_one_that_is_left_is_not() -> None:
    with asking(Fake(plays=(stream("a", "b", cut=True),)), []) as server:
        with (
            pytest.raises(RemoteError, match="disconnected"),
            server.events("/v1/completions", ASK) as events,
        ):
            list(events)
        with server.events("/v1/completions", ASK) as events:
            assert '"a"' in next(events)


def test_a_missing_key_and_a_server_that_is_not_there_are_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("TOOLCHAIN_API_KEY", raising=False)
    with fake_server(Fake(key="good")) as url:
        with (
            open_server(read_address(url, None, 10), never) as server,
            pytest.raises(RemoteError, match="http 401; got no such key; set TOOLCHAIN_API_KEY"),
        ):
            server.model(None)
        monkeypatch.setenv("TOOLCHAIN_API_KEY", "good")
        with open_server(read_address(url, None, 10), never) as server:
            assert server.model(None).name == "fake"
    with (
        open_server(read_address(url, None, 10), never) as server,
        pytest.raises(RemoteError, match=r"no connection; got .*; start the server"),
    ):
        server.model(None)
