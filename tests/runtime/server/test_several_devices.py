"""A server on several devices: one port, one queue; here each session is on the CPU."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import active_children
from pathlib import Path

import httpx2
import pytest

from runtime.bundle.reader import load_bundle
from runtime.server.loading import served
from runtime.server.service import Service
from runtime.server.settings import Settings
from runtime.sessions import SessionOptions
from runtime.sessions.elsewhere import SessionElsewhere
from tests.runtime.server.test_sameness import case
from tests.serving import Serving, eventually, is_idle, make_service, ready

CASES = 40


@pytest.fixture
def on_two(bundles: Path) -> Iterator[Serving]:
    loaded = load_bundle(bundles / "small-fp32")
    settings = Settings(port=0, max_requests=1000, device="0,1")
    sessions = [SessionElsewhere(loaded, SessionOptions(threads=1)) for _ in range(2)]
    for session in sessions:
        session.wait_until_open()
    with ready(Service(settings, lambda _: served(loaded, sessions, settings))) as server:
        yield server
    assert not active_children()


def ask_all(server: Serving) -> list[dict[str, object]]:
    def ask(seed: int) -> dict[str, object]:
        reply: httpx2.Response = http.post("/v1/completions", json=case(seed))
        assert reply.status_code == 200
        return {key: reply.json()[key] for key in ("choices", "usage")}

    with server.http() as http, ThreadPoolExecutor(12) as pool:
        return list(pool.map(ask, range(CASES)))


def test_the_answers_are_those_of_one_and_both_give_them(on_two: Serving, bundles: Path) -> None:
    found = ask_all(on_two)
    engines = on_two.service.model().engines
    assert min(each.scheduler.counters.requests for each in engines.each) > CASES / 4
    eventually(on_two, lambda: is_idle(on_two))
    slots = sum(len(each.scheduler.engine.cache.slots) for each in engines.each)
    assert on_two.metric("slots_free") == slots
    with ready(make_service(bundles / "small-fp32", max_requests=1000)) as one:
        assert ask_all(one) == found


def test_a_lost_device_makes_the_server_say_so(on_two: Serving) -> None:
    """Else the device that fails at once would be the least busy one, and get every request."""
    child = active_children()[0]
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    with on_two.http() as http, ThreadPoolExecutor(12) as pool:
        asked = pool.map(lambda i: http.post("/v1/completions", json=case(i)), range(12))
        assert {reply.status_code for reply in asked} <= {200, 500, 503}
        assert http.get("/health/live").status_code == 503
