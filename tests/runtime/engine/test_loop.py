"""Claims about the engine's thread: who submits from where changes no token and loses no slot."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random
from threading import Event

import pytest

from runtime.bundle.manifest import Graph
from runtime.bundle.reader import load_bundle
from runtime.engine.engine import Engine
from runtime.engine.loop import EngineLoop, Stream
from runtime.engine.scheduler import Scheduler
from runtime.engine.sequence import Request
from runtime.errors import PromptError, SessionError
from runtime.sampling.params import SamplingParams
from runtime.sessions import open_session
from runtime.sessions.base import Chunk, Logits, Session
from tests.mixes import alone

VOCAB, NUM_SLOTS = 640, 5
GREEDY = SamplingParams(max_tokens=10)


@pytest.fixture(scope="module")
def session(bundles: Path) -> Iterator[Session]:
    with closing(open_session(load_bundle(bundles / "small-fp32"))) as session:
        yield session


def request_of(seed: int, params: SamplingParams = GREEDY) -> Request:
    rng = Random(seed)
    return Request(prompt_ids=rng.choices(range(VOCAB), k=rng.randint(1, 25)), params=params)


@contextmanager
def looping(session: Session, **limits: int) -> Iterator[tuple[EngineLoop, Engine]]:
    engine = Engine(session)
    with closing(EngineLoop(Scheduler(engine), **limits)) as loop:
        yield loop, engine


class Held:
    """A session whose calls wait until they are let go."""

    def __init__(self, session: Session) -> None:
        self.manifest, self.static_shapes = session.manifest, session.static_shapes
        self.hidden = session.hidden
        self.begun, self.go_on = Event(), Event()
        self._session = session
        self.prepare, self.copy_rows, self.close = (
            session.prepare,
            session.copy_rows,
            session.close,
        )

    def run(self, graph: Graph, chunks: Sequence[Chunk]) -> Logits:
        self.begun.set()
        assert self.go_on.wait(60)
        return self._session.run(graph, chunks)


def test_requests_from_many_threads_have_the_tokens_that_they_have_alone(session: Session) -> None:
    requests = [request_of(seed) for seed in range(24)]
    with looping(session) as (loop, engine):
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda request: [t.id for t in loop.submit(request)], requests))
        assert loop.num_open == 0
        assert engine.cache.num_free == NUM_SLOTS
    assert answers == [alone(session, request) for request in requests]


def test_somebody_who_does_not_wait_is_notified_and_takes_what_is_there(session: Session) -> None:
    arrived = Event()
    with looping(session) as (loop, _):
        stream = loop.submit(request_of(1), arrived.set)
        ids, ended = [], False
        while not ended:
            assert arrived.wait(60)
            arrived.clear()
            tokens, ended = stream.take()
            ids += [token.id for token in tokens]
    assert ids == alone(session, request_of(1))


def test_a_cancelled_request_gives_its_slot_back_and_disturbs_nobody(session: Session) -> None:
    held = Held(session)
    with looping(held) as (loop, engine):
        cancelled, other = loop.submit(request_of(2)), loop.submit(request_of(3))
        assert held.begun.wait(60)
        cancelled.cancel()
        cancelled.cancel()  # twice is once
        held.go_on.set()
        assert [token.id for token in other] == alone(session, request_of(3))
        assert len(list(cancelled)) <= 1, "the call that ran may have brought a token"
        assert loop.drain(60)
        assert engine.cache.num_free == NUM_SLOTS


def test_a_refused_request_is_told_by_its_stream_and_the_others_go_on(session: Session) -> None:
    with looping(session) as (loop, _):
        bad = loop.submit(Request(prompt_ids=[VOCAB], params=GREEDY))
        good = loop.submit(request_of(4))
        with pytest.raises(PromptError, match="no such token id"):
            list(bad)
        assert len(list(good)) == 10


def test_more_prompt_tokens_than_there_is_room_for_are_refused_before_any_work(
    session: Session,
) -> None:
    held = Held(session)
    two = Request(prompt_ids=[5, 6], params=GREEDY)
    with looping(held, max_tokens=5) as (loop, _):
        taken = [loop.submit(two), loop.submit(two)]
        with pytest.raises(SessionError, match="got 4; allowed: up to 5") as refusal:
            loop.submit(two)
        assert refusal.value.code == "busy"
        held.go_on.set()
        for stream in taken:
            assert len(list(stream)) == 10
        assert len(list(loop.submit(two))) == 10  # there is room again


def test_draining_ends_what_was_taken_and_takes_no_more(session: Session) -> None:
    held = Held(session)
    with looping(held) as (loop, _):
        streams = [loop.submit(request_of(seed)) for seed in range(6)]
        assert not loop.drain(0)
        with pytest.raises(SessionError, match="closing"):
            loop.submit(request_of(7))
        held.go_on.set()
        assert loop.drain(60)
        for seed, stream in enumerate(streams):
            assert [token.id for token in stream] == alone(session, request_of(seed))


def test_closing_ends_every_request_with_an_error_and_the_thread(session: Session) -> None:
    held = Held(session)
    streams: list[Stream] = []
    with looping(held) as (loop, engine):
        streams += [loop.submit(request_of(seed)) for seed in range(6)]
        assert held.begun.wait(60)
        held.go_on.set()
    for stream in streams:
        with pytest.raises(SessionError, match="the engine was closed"):
            list(stream)
    assert engine.cache.num_free == NUM_SLOTS


def test_a_bug_in_the_scheduler_leaves_nobody_waiting(session: Session) -> None:
    class Broken(Scheduler):
        def step(self) -> list:  # type: ignore[type-arg]
            raise ZeroDivisionError

    with closing(EngineLoop(Broken(Engine(session)))) as loop:
        with pytest.raises(ZeroDivisionError):
            list(loop.submit(request_of(1)))
        assert isinstance(loop.failure, ZeroDivisionError)
        with pytest.raises(SessionError, match="closing"):
            loop.submit(request_of(1))
