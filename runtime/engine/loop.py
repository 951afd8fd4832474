"""One thread that drives the scheduler, for requests that come from many others."""

from collections.abc import Callable, Iterator
from threading import Condition, Thread

from runtime.engine.scheduler import Scheduler
from runtime.engine.sequence import Request, Sequence, Token
from runtime.errors import SessionError

__all__ = ["EngineLoop", "Stream"]


class Stream:
    """The tokens of one request, as they are made. Iterating waits for the next.

    It holds at most the tokens of one answer, however slowly it is read: a slow reader keeps
    neither the engine nor a slot.

    Args:
        loop: what makes the tokens.
        request: what was asked.
        notify: called by the engine's thread when there is something to take; must not wait.
    """

    def __init__(self, loop: "EngineLoop", request: Request, notify: Callable[[], None]) -> None:
        self.request = request
        self.sequence: Sequence | None = None  # the engine thread's
        self.notify = notify
        self._loop = loop
        self._tokens: list[Token] = []
        self._error: Exception | None = None
        self._ended = False

    def take(self) -> tuple[list[Token], bool]:
        """What was made since the last call, and whether that was all.

        Raises:
            UserError: what ended the request, once all tokens before that are taken.
        """
        with self._loop.changed:
            tokens, self._tokens = self._tokens, []
            if not tokens and self._error is not None:
                raise self._error
            return tokens, self._ended and self._error is None

    def __iter__(self) -> Iterator[Token]:
        while True:
            with self._loop.changed:
                self._loop.changed.wait_for(lambda: self._tokens or self._ended)
            tokens, ended = self.take()
            yield from tokens
            if ended:
                return

    def cancel(self) -> None:
        """Ends the request; its slot is free after the call that is running."""
        self._loop.cancel(self)

    def put(self, tokens: list[Token], ended: bool, error: Exception | None) -> None:
        """The engine thread's: hands tokens over."""
        with self._loop.changed:
            self._tokens += tokens
            self._ended, self._error = self._ended or ended, error or self._error
            self._loop.changed.notify_all()
        self.notify()


class EngineLoop:
    """Runs a scheduler in a thread of its own, from its making until `close`.

    Args:
        scheduler: nobody else may call it from now on.
        max_tokens: of all prompts that are waiting or running; more are refused at once.
    """

    def __init__(self, scheduler: Scheduler, *, max_tokens: int = 1 << 20) -> None:
        self.changed = Condition()
        self._scheduler, self._max_tokens = scheduler, max_tokens
        self._new: list[Stream] = []
        self._cancelled: list[Stream] = []
        self._streams: dict[int, Stream] = {}  # by the identity of their sequence
        self._open: set[Stream] = set()  # submitted and not ended
        self._num_tokens = 0
        self.failure: Exception | None = None
        """What ended the thread, if not `close`."""
        self._draining = self._closing = False
        self._thread = Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def num_open(self) -> int:
        """Requests that are waiting or running."""
        return len(self._open)

    def submit(self, request: Request, notify: Callable[[], None] = lambda: None) -> Stream:
        """Takes a request, or refuses it at once.

        Raises:
            SessionError: too many tokens are waiting, or the loop is closing.
            PromptError, ParameterError: by the first `take`.
        """
        stream = Stream(self, request, notify)
        num_tokens = len(request.prompt_ids)
        with self.changed:
            if self._draining or self._closing:
                raise SessionError("the engine is closing", code="busy")
            if self._num_tokens + num_tokens > self._max_tokens:
                raise SessionError(
                    "too many prompt tokens are waiting",
                    got=self._num_tokens,
                    allowed=f"up to {self._max_tokens}",
                    next_step="try again later",
                    code="busy",
                )
            self._open.add(stream)
            self._num_tokens += num_tokens
            self._new.append(stream)
            self.changed.notify_all()
        return stream

    def cancel(self, stream: Stream) -> None:
        """Ends a request; see Stream.cancel."""
        with self.changed:
            self._cancelled.append(stream)
            self.changed.notify_all()

    def drain(self, timeout: float | None = None) -> bool:
        """Takes no more requests, and waits until all that were taken have ended.

        Returns:
            Whether they have.
        """
        with self.changed:
            self._draining = True
            return self.changed.wait_for(lambda: not self._open, timeout)

    def close(self) -> None:
        """Ends every request after the call that is running, then the thread."""
        with self.changed:
            self._closing = True
            self.changed.notify_all()
        self._thread.join()

    # The engine's thread.

    def _run(self) -> None:
        error: Exception = SessionError("the engine was closed", code="busy")
        try:
            while self._take_orders():
                for sequence in self._scheduler.step():
                    self._deliver(sequence)
        except Exception as caught:  # a bug of ours: nobody may wait for ever
            self.failure = error = caught
        with self.changed:
            self._closing = True
        for stream in list(self._open):
            self._end(stream, error)

    def _take_orders(self) -> bool:
        """Adds and aborts what was asked for; False when it is time to close."""
        with self.changed:
            self.changed.wait_for(
                lambda: self._new or self._cancelled or self._closing or not self._scheduler.is_idle
            )
            new, self._new = self._new, []
            cancelled, self._cancelled = self._cancelled, []
            closing = self._closing
        for stream in new:
            try:
                stream.sequence = self._scheduler.add(stream.request)
            except Exception as error:
                self._end(stream, error)
            else:
                self._streams[id(stream.sequence)] = stream
        for stream in cancelled:
            if stream.sequence is not None and stream in self._open:
                self._scheduler.abort(stream.sequence)
                self._streams.pop(id(stream.sequence), None)
                self._end(stream, None)
        if closing:
            for stream in list(self._open):
                if stream.sequence is not None:
                    self._scheduler.abort(stream.sequence)
        return not closing

    def _deliver(self, sequence: Sequence) -> None:
        stream = self._streams.get(id(sequence))
        if stream is None:  # cancelled meanwhile
            return
        tokens, sequence.tokens = sequence.tokens, []
        if not sequence.ended:
            stream.put(tokens, False, None)
            return
        del self._streams[id(sequence)]
        stream.put(tokens, False, None)
        self._end(stream, sequence.error)

    def _end(self, stream: Stream, error: Exception | None) -> None:
        with self.changed:
            if stream in self._open:
                self._open.remove(stream)
                self._num_tokens -= len(stream.request.prompt_ids)
        stream.put([], True, error)
