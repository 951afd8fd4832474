"""One request from its prompt to its last token: the generator around the scheduler."""

from collections.abc import Generator
from contextlib import contextmanager

from runtime.engine.scheduler import Scheduler
from runtime.engine.sequence import Request, Sequence, Token

__all__ = ["generate", "running"]


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


def generate(scheduler: Scheduler, request: Request) -> Generator[Token, None, None]:
    """Generates until a stop token, max_tokens or else max_length, or the cache is full.

    Every step is one of the scheduler, so that other requests go on meanwhile.

    Every row of the cache is used: a prompt of n tokens leaves room for cache_len - n + 1 new
    ones, since the last token needs no row. The stop token itself is the last one yielded.

    Raises:
        PromptError: the prompt is empty or longer than the cache.
        ParameterError: a token id in the parameters is not in the vocabulary.
        SessionError: the model gave unusable numbers, or a deadline has passed.
    """
    with running(scheduler, request) as sequence:
        while not sequence.ended:
            yield from sequence.take()
            scheduler.step()
        yield from sequence.take()
        yield from sequence.take()  # raises what ended it
