"""What the server takes at once, what it refuses and how, and what happens before it is ready."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from runtime.bundle.reader import load_bundle
from runtime.errors import BundleError
from runtime.progress import Progress
from runtime.server.connection import Connection
from runtime.server.listen import serve
from runtime.server.loading import open_model
from runtime.server.served_model import ServedModel
from runtime.server.service import Service
from runtime.server.settings import Settings
from runtime.sessions import Session
from runtime.timing import now
from tests.serving import PATIENCE, Gate, Serving, eventually, is_idle, make_service, ready, serving

BODY = {"prompt": "An edge", "max_tokens": 3}


@pytest.fixture
def gates() -> list[Gate]:
    return []


@pytest.fixture
def small_room(bundles: Path, gates: list[Gate]) -> Iterator[Serving]:
    """Room for three answers and 40 tokens of prompts."""

    def wrap(session: Session) -> Session:
        gates.append(Gate(session))
        return gates[0]

    service = make_service(bundles / "talk-int4", wrap, max_requests=3, max_prompt_tokens=40)
    with ready(service) as server:
        yield server
        gates[0].open.set()


def ask(server: Serving, body: dict[str, Any]) -> int:
    with server.http() as http:
        return int(http.post("/v1/completions", json=body).status_code)


def test_more_than_there_is_room_for_is_refused_at_once(
    small_room: Serving, gates: list[Gate]
) -> None:
    """While the engine does nothing at all, refusals and health still come."""
    gates[0].shut()
    with ThreadPoolExecutor(3) as pool, small_room.http() as http:
        taken = [pool.submit(ask, small_room, BODY) for _ in range(3)]
        eventually(small_room, lambda: small_room.metric("queue_depth") == 3)
        for _ in range(20):
            refused = http.post("/v1/completions", json=BODY)
            assert refused.status_code == 503
            assert refused.json()["error"]["code"] == "server_overloaded"
            assert int(refused.headers["retry-after"]) >= 1
        assert http.get("/health/ready").status_code == 200
        gates[0].open.set()
        assert [each.result(PATIENCE) for each in taken] == [200] * 3
        assert http.post("/v1/completions", json=BODY).status_code == 200
    assert small_room.metric("requests_rejected_total", reason="server_overloaded") == 20


@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_a_full_server_refuses_before_it_reads_what_is_asked(
    path: str, small_room: Serving
) -> None:
    no_json = b'{"prompt": '
    with small_room.http(headers={"Content-Type": "application/json"}) as http:
        with small_room.service.admitted(3):
            assert http.post(path, content=no_json).status_code == 503
        assert http.post(path, content=no_json).status_code == 400


def test_answers_count_and_more_than_there_ever_is_room_for_is_a_mistake(
    small_room: Serving, gates: list[Gate]
) -> None:
    assert ask(small_room, BODY | {"n": 3}) == 200
    assert ask(small_room, BODY | {"n": 4}) == 400
    assert ask(small_room, BODY | {"prompt": ["a"] * 4}) == 400
    gates[0].shut()
    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(ask, small_room, BODY)
        eventually(small_room, lambda: small_room.metric("queue_depth") == 1)
        assert ask(small_room, BODY | {"n": 3}) == 503
        gates[0].open.set()
        assert taken.result(PATIENCE) == 200


def test_tokens_of_prompts_count_too(small_room: Serving, gates: list[Gate]) -> None:
    gates[0].shut()
    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(ask, small_room, BODY | {"prompt": [5] * 30})
        eventually(small_room, lambda: small_room.service.model().engines.num_open == 1)
        assert ask(small_room, BODY | {"prompt": [5] * 11}) == 503
        gates[0].open.set()
        assert taken.result(PATIENCE) == 200
    eventually(small_room, lambda: is_idle(small_room))
    assert ask(small_room, BODY | {"prompt": [5] * 11}) == 200


def test_the_queue_time_is_what_an_answer_waits_for_its_slot(
    small_room: Serving, gates: list[Gate]
) -> None:
    """The model has one slot, which the first one holds until the gate opens."""
    gates[0].shut()
    with ThreadPoolExecutor(2) as pool:
        taken = [pool.submit(ask, small_room, BODY)]
        assert gates[0].knocked.wait(PATIENCE)
        taken.append(pool.submit(ask, small_room, BODY))
        eventually(small_room, lambda: small_room.metric("queue_depth") == 2)
        since = now()
        eventually(small_room, lambda: now() - since > 0.1)
        waited = now() - since
        gates[0].open.set()
        assert [each.result(PATIENCE) for each in taken] == [200] * 2
    assert small_room.metric("request_queue_time_seconds_count") == 2
    queued = small_room.metric("request_queue_time_seconds_sum")
    assert waited < queued < small_room.metric("time_to_first_token_seconds_sum")


@pytest.mark.parametrize("stream", [False, True])
def test_one_that_waits_too_long_is_refused_before_any_work(stream: bool, bundles: Path) -> None:
    with ready(make_service(bundles / "talk-int4", queue_timeout=1e-9)) as server:
        parts = server.service.model().engines.each[0].scheduler.counters.prompt_parts
        with server.http() as http:
            reply = http.post("/v1/completions", json=BODY | {"stream": stream})
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "deadline_exceeded")
        assert "retry-after" in reply.headers
        assert server.service.model().engines.each[0].scheduler.counters.prompt_parts == parts


def test_while_the_model_loads_the_server_says_how_far_it_is(bundles: Path) -> None:
    halfway, go_on = Event(), Event()

    def load(progress: Progress) -> ServedModel:
        progress.step("checking the bundle")
        progress.expect(200)
        progress.advance(50)
        halfway.set()
        assert go_on.wait(PATIENCE)
        bundle = load_bundle(bundles / "talk-int4", progress)
        return open_model(bundle, settings, progress)

    settings = Settings(port=0)
    with serving(Service(settings, load)) as server, server.http() as http:
        assert halfway.wait(PATIENCE)
        state = http.get("/health/ready")
        assert state.status_code == 503
        assert state.json() == {
            "status": "loading",
            "step": "checking the bundle",
            "progress": 0.25,
        }
        assert http.get("/health/live").status_code == 200
        assert b"runtime_ready 0.0" in http.get("/metrics").content
        refused = http.post("/v1/completions", json=BODY)
        assert refused.status_code == 503
        assert refused.json()["error"]["code"] == "not_ready"
        assert "retry-after" in refused.headers
        go_on.set()
        eventually(server, lambda: server.service.state == "ready")
        assert http.post("/v1/completions", json=BODY).status_code == 200


def test_a_model_that_cannot_be_loaded_ends_the_server_with_its_error() -> None:
    def load(_: Progress) -> ServedModel:
        raise BundleError("the weights are altered")

    with pytest.raises(BundleError, match="the weights are altered"):
        serve(Settings(port=0), load)


def begun(server: Serving) -> set[int]:
    """Ports of the clients whose headers have been read."""
    connections = list(server.server.server_state.connections)
    ours = [each for each in connections if isinstance(each, Connection)]
    return {each.client[1] for each in ours if each.client and each.cycle is not None}


def test_a_request_that_is_complete_after_sigterm_is_refused(bundles: Path) -> None:
    """Its connection is there, so it is told; one that comes later finds nobody."""
    body = b'{"prompt": "An"}'
    head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with ready(make_service(bundles / "talk-int4")) as server:
        connection = socket.create_connection((server.host, server.port), PATIENCE)
        with connection:
            connection.sendall(head + b"Content-Length: %d\r\n\r\n" % len(body))
            own = connection.getsockname()[1]
            eventually(server, lambda: own in begun(server))
            server.server.should_exit = True
            while server.service.state != "draining":
                pass
            connection.sendall(body)
            said = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert said.startswith(b"HTTP/1.1 503")
    assert b'"not_ready"' in said


def test_a_server_that_drains_takes_nothing_new(bundles: Path) -> None:
    with ready(make_service(bundles / "talk-int4")) as server, server.http() as http:
        server.service.drain()
        assert http.get("/health/ready").json()["status"] == "draining"
        assert http.get("/health/live").status_code == 200
        refused = http.post("/v1/completions", json=BODY)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "not_ready")
