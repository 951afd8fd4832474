"""One request from its prompt to its last token: the generator around the scheduler."""

from collections.abc import Generator
from contextlib import contextmanager

from runtime.engine.scheduler import Scheduler
from runtime.engine.sequence import Request, Sequence, Token

__all__ = ["generate", "running", "tokens_of"]


@contextmanager
def running(scheduler: Scheduler, request: Request) -> Generator[Sequence, None, None]:
    """A sequence for as long as somebody wants it.

    Raises:
        UserError: as Scheduler.add.
    """
    sequence = scheduler.add(request)
    try:
        yield sequence
    finally:
        scheduler.abort(sequence)


def tokens_of(scheduler: Scheduler, sequence: Sequence) -> Generator[Token, None, None]:
    """Steps until the sequence has ended, and yields its tokens; other requests go on meanwhile.

    Raises:
        UserError: what ended it.
    """
    while True:
        yield from sequence.take()
        if sequence.ended:
            yield from sequence.take()  # raises what ended it
            return
        scheduler.step()


def generate(scheduler: Scheduler, request: Request) -> Generator[Token, None, None]:
    """Generates until a stop token, max_tokens or else max_length, or the cache is full.

    Every row of the cache is used: a prompt of n tokens leaves room for cache_len - n + 1 new
    ones, since the last token needs no row. The stop token itself is the last one yielded.

    Raises:
        PromptError: the prompt is empty or longer than the cache.
        ParameterError: a token id in the parameters is not in the vocabulary.
        SessionError: the model gave unusable numbers, or a deadline has passed.
    """
    with running(scheduler, request) as sequence:
        yield from tokens_of(scheduler, sequence)
