"""What is served, from the first byte of loading to the last token: its state, and its limits."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from threading import Lock, Thread
from typing import Literal

from runtime.engine.scheduler import Scheduler
from runtime.progress import Progress
from runtime.server.errors import HttpError
from runtime.server.metrics import Metrics
from runtime.server.served_model import ServedModel
from runtime.server.settings import Settings

__all__ = ["Load", "LoadProgress", "Service", "State"]

State = Literal["loading", "ready", "draining", "failed"]
Load = Callable[[Progress], ServedModel]
log = logging.getLogger("runtime.server")


class Service:
    """A model that is being loaded, answers, or is about to stop.

    Args:
        settings: its limits.
        load: opens the model; called in a thread by `start`.
        when_failed: called in that thread when the model cannot be loaded.
    """

    def __init__(
        self, settings: Settings, load: Load, when_failed: Callable[[], None] = lambda: None
    ) -> None:
        self.settings, self.metrics = settings, Metrics()
        self.failure: Exception | None = None
        self.progress = LoadProgress()
        self._load, self._when_failed = load, when_failed
        self._model: ServedModel | None = None
        self._to_close: ServedModel | None = None
        self._draining = False
        self._admitted = 0
        self._lock = Lock()
        self._tell_gauges()

    def start(self) -> None:
        """Begins to load the model."""
        Thread(target=self._open, name="load", daemon=True).start()

    def _open(self) -> None:
        try:
            model = self._load(self.progress)
        except Exception as error:
            log.exception("the model cannot be loaded")
            self.failure = error
            self._when_failed()
            return
        self.metrics.tell_build(model.digest, model.backend)
        with self._lock:
            self._model = self._to_close = model
        log.info("ready", extra={"fields": {"model": model.name, "bundle": model.digest}})

    @property
    def loaded(self) -> ServedModel | None:
        """The model, once it is loaded."""
        return self._model

    @property
    def state(self) -> State:
        """What it is doing."""
        model = self._model
        if self.failure is not None or (model is not None and model.engines.failure is not None):
            return "failed"
        if self._draining:
            return "draining"
        return "loading" if model is None else "ready"

    def model(self) -> ServedModel:
        """The model that answers.

        Raises:
            HttpError: it does not answer now.
        """
        state = self.state
        if state != "ready" or self._model is None:
            waits = "Loading model" if state == "loading" else f"the server is {state}"
            raise HttpError(waits, next_step="try again later", code="not_ready")
        return self._model

    def check_room(self, num_answers: int = 1) -> None:
        """Refuses what there is no room for now.

        Raises:
            HttpError: too many answers are waiting or running.
        """
        most = self.settings.max_requests
        if self._admitted + num_answers > most:
            raise HttpError(
                "too many requests are waiting",
                got=f"{self._admitted} waiting or running",
                allowed=f"up to {most}",
                next_step="try again later",
                code="busy",
            )

    @contextmanager
    def admitted(self, num_answers: int) -> Iterator[None]:
        """Makes room for answers before any work is done for them.

        Raises:
            HttpError: there is none, now or ever.
        """
        most = self.settings.max_requests
        if num_answers > most:
            raise HttpError(
                "more answers than the server has room for",
                got=f"{num_answers} answers",
                allowed=f"up to {most} of all requests together",
                next_step="ask for fewer at once",
                code="invalid_value",
                param="n",
            )
        self.check_room(num_answers)
        self._admitted += num_answers
        try:
            yield
        finally:
            self._admitted -= num_answers

    def drain(self) -> None:
        """Takes no more requests; those that were taken go on."""
        with self._lock:
            self._draining = True

    def stop(self) -> None:
        """Ends what is still running after the call that runs."""
        self.drain()
        with self._lock:
            model, self._to_close = self._to_close, None
        if model is not None:
            model.close()

    def _tell_gauges(self) -> None:
        gauge = self.metrics.gauge
        gauge("queue_depth", "Answers that were admitted", lambda: self._admitted)
        gauge("ready", "1 when the server answers", lambda: self.state == "ready")
        for name, about, read in GAUGES:
            gauge(name, about, partial(self._of_model, read))

    def _of_model(self, read: Callable[[ServedModel], float]) -> float:
        return 0.0 if self._model is None else read(self._model)


def _usage(model: ServedModel) -> float:
    slots = [slot for each in model.engines.each for slot in each.scheduler.engine.cache.slots]
    return sum(slot.length for slot in slots) / (len(slots) * model.context_len)


def _sum(read: Callable[[Scheduler], int]) -> Callable[[ServedModel], float]:
    """A figure of all engines together."""
    return lambda model: sum(read(each.scheduler) for each in model.engines.each)


GAUGES: tuple[tuple[str, str, Callable[[ServedModel], float]], ...] = (
    ("num_requests_running", "Answers that hold a slot", _sum(lambda s: s.num_running)),
    ("num_requests_waiting", "Answers that wait for a slot", _sum(lambda s: s.num_waiting)),
    ("slots_free", "Cache slots that nobody holds", _sum(lambda s: s.engine.cache.num_free)),
    ("kv_cache_usage_perc", "Part of the cache's rows that hold tokens, 0 to 1", _usage),
    (
        "prefix_cache_hits",
        "Prompt tokens whose rows were in the cache",
        _sum(lambda s: s.engine.prefix_hits),
    ),
    (
        "prompt_tokens_computed",
        "Prompt tokens that were run",
        _sum(lambda s: s.engine.computed_tokens),
    ),
)


class LoadProgress:
    """See Progress; keeps how far loading is."""

    def __init__(self) -> None:
        self.current = "starting"
        self._done = self._expected = 0
        self._lock = Lock()

    @property
    def fraction(self) -> float | None:
        """Of the step, 0 to 1; None where it does not say."""
        return min(1.0, self._done / self._expected) if self._expected else None

    def step(self, text: str) -> None:
        """See Progress."""
        self.current, self._done, self._expected = text, 0, 0

    def expect(self, num_bytes: int) -> None:
        """See Progress."""
        self._expected = num_bytes

    def advance(self, num_bytes: int) -> None:
        """See Progress."""
        with self._lock:
            self._done += num_bytes
