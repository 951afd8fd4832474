"""Whatever call of the engine fails, and however: the server lives and nothing is lost but that.

`KINDS=4 pytest tests/runtime/server/test_faults.py` fails every call in every way; the suite fails
each in one of them.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.bundle.manifest import Graph
from runtime.errors import SessionError
from runtime.sessions.base import Chunk, Logits, Session
from tests.serving import Serving, Wrapped, eventually, is_idle, make_service, ready

NEVER = 10_000
SCRIPT: list[dict[str, Any]] = [
    {"prompt": "An edge box", "max_tokens": 5, "n": 3, "temperature": 1, "seed": 1},
    {"prompt": [1, 5, 6, 7, 9], "max_tokens": 1, "logprobs": 1, "echo": True},
    {"prompt": ["An edge", "北京是"], "max_tokens": 4, "stream": True, "ignore_eos": True},
    {"prompt": "An edge box is", "max_tokens": 3, "stop": "the"},
]
GREEDY = {"prompt": "北京是", "max_tokens": 10, "temperature": 0}


class Faulty(Wrapped):
    """A session that goes wrong at one of its calls."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.calls, self.fail_at = 0, NEVER
        self.fail: Callable[[Logits], Logits] = lambda logits: logits

    def arm(self, fail_at: int, fail: Callable[[Logits], Logits]) -> None:
        self.calls, self.fail_at, self.fail = 0, fail_at, fail

    def _fails(self) -> bool:
        self.calls += 1
        return self.calls == self.fail_at

    def run(self, graph: Graph, chunks: Sequence[Chunk]) -> Logits:
        fails = self._fails()
        logits = super().run(graph, chunks)
        return self.fail(logits) if fails else logits

    def copy_rows(self, source: int, target: int, num_rows: int) -> None:
        if self._fails():
            self.fail(np.zeros((1, 1), np.float32))
        super().copy_rows(source, target, num_rows)


def raising(error: Exception) -> Callable[[Logits], Logits]:
    def fail(_: Logits) -> Logits:
        raise error

    return fail


def not_numbers(logits: Logits) -> Logits:
    return np.full_like(logits, np.nan)


def play(server: Serving) -> list[tuple[int, str]]:
    """Asks everything of the script in turn."""
    with server.http() as http:
        replies = [http.post("/v1/completions", json=body) for body in SCRIPT]
    return [(reply.status_code, reply.text) for reply in replies]


FAILURES: list[Callable[[Logits], Logits]] = [
    raising(SessionError("the device stumbled")),
    raising(OSError("secret")),
    raising(MemoryError()),
    not_numbers,
]


@pytest.mark.parametrize("first", range(int(os.environ.get("KINDS", "1"))))
def test_a_fault_at_any_call_costs_one_request_and_no_more(first: int, bundles: Path) -> None:
    sessions: list[Faulty] = []

    def wrap(session: Session) -> Session:
        sessions.append(Faulty(session))
        return sessions[0]

    with ready(make_service(bundles / "small-fp32", wrap)) as server, server.http() as http:
        expected = http.post("/v1/completions", json=GREEDY).json()["choices"]
        failures = 0
        for fail_at in range(1, NEVER):
            sessions[0].arm(fail_at, FAILURES[(first + fail_at) % len(FAILURES)])
            replies = play(server)
            if sessions[0].calls < fail_at:
                break
            sessions[0].arm(NEVER, not_numbers)
            failed = [text for status, text in replies if status == 500 or "internal_error" in text]
            failures += len(failed)
            assert len(failed) <= 1
            assert not any("secret" in text for text in failed)
            assert {status for status, _ in replies} <= {200, 500}
            eventually(server, lambda: is_idle(server))
            assert http.post("/v1/completions", json=GREEDY).json()["choices"] == expected
        assert failures > 15
        assert http.get("/health/ready").status_code == 200


def test_an_engine_thread_that_dies_makes_the_server_say_so(bundles: Path) -> None:
    """Only a new start helps then; whoever watches /health/live knows."""
    service = make_service(bundles / "small-fp32")
    with ready(service) as server, server.http() as http:
        scheduler = service.model().engines.each[0].scheduler
        scheduler.step = raising(ZeroDivisionError())  # type: ignore[method-assign, assignment]
        reply = http.post("/v1/completions", json=GREEDY)
        assert reply.status_code == 500
        assert reply.json()["error"]["code"] == "internal_error"
        assert http.get("/health/live").json()["status"] == "failed"
        assert http.get("/health/live").status_code == 503
        refused = http.post("/v1/completions", json=GREEDY)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "not_ready")
