"""A session in a process of its own does what one in this process does; a CPU stands for chips."""

import os
import signal
from collections.abc import Iterator
from contextlib import closing
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest

from runtime.bundle.reader import Bundle, load_bundle
from runtime.engine.engine import Engine
from runtime.errors import DeviceLostError, SessionError
from runtime.sessions import SessionOptions, open_session
from runtime.sessions.base import Logits, Session
from runtime.sessions.elsewhere import SessionElsewhere, open_sessions

PROMPT = [1, 5, 9, 33, 7]
ONE_THREAD = SessionOptions(threads=1)


@pytest.fixture(scope="module")
def bundle(bundles: Path) -> Bundle:
    return load_bundle(bundles / "small-fp32")


@pytest.fixture
def elsewhere(bundle: Bundle) -> Iterator[SessionElsewhere]:
    with closing(SessionElsewhere(bundle, ONE_THREAD)) as session:
        session.wait_until_open()
        yield session
    assert not active_children()


def rows(session: Session) -> Logits:
    """Logits of two prompts that begin alike, and of a step after both, (4, V)."""
    for graph in session.manifest.graphs:
        session.prepare(graph)
    engine = Engine(session)
    with engine.slot(PROMPT) as first:
        found = [engine.prefill(first, PROMPT).copy()]
        with engine.slot([*PROMPT, 8]) as second:
            found.append(engine.prefill(second, [*PROMPT, 8]).copy())
            return np.stack([*found, *engine.decode([first, second], [7, 2])])


def test_it_gives_the_same_logits(bundle: Bundle, elsewhere: SessionElsewhere) -> None:
    with closing(open_session(bundle, ONE_THREAD)) as session:
        assert elsewhere.static_shapes == session.static_shapes
        assert (rows(elsewhere) == rows(session)).all()


def test_a_process_that_was_killed_is_an_error_and_stays_one(elsewhere: SessionElsewhere) -> None:
    [child] = active_children()
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    for _ in range(2):
        with pytest.raises(DeviceLostError, match="device 0 has ended; got exit code -9"):
            elsewhere.copy_rows(0, 1, 1)


def test_signals_to_all_processes_do_not_end_it(elsewhere: SessionElsewhere) -> None:
    [child] = active_children()
    assert child.pid is not None
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(child.pid, signum)
    elsewhere.copy_rows(0, 1, 1)


def test_what_cannot_be_opened_there_says_why(bundle: Bundle) -> None:
    with (
        closing(SessionElsewhere(bundle, SessionOptions(device=1))) as session,
        pytest.raises(SessionError, match="backend onnxruntime has one device; got device 1"),
    ):
        session.wait_until_open()
    with pytest.raises(SessionError, match="has one device; got device 0,1; allowed: 0"):
        open_sessions(bundle, [0, 1])
    assert not active_children()
