"""Who is examined: the seam between questions and what answers them, and a bundle as one."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, TypeVar

from pydantic import JsonValue

from runtime.bundle.reader import Bundle
from runtime.engine.scheduler import Scheduler
from runtime.text.tokenizer import Tokenizer
from toolchain.evals.answers import Answer, ask
from toolchain.evals.prompts import Prompt
from toolchain.evals.styles import Style

__all__ = ["Examinee", "OnBundle", "describe_bundle", "in_order", "longest_prompt"]

T = TypeVar("T")
R = TypeVar("R")


class Examinee(Protocol):
    """Answers prompts.

    described: words for people; what a result says of the model.
    identity: all that its answers depend on besides prompts; part of the log's key.
    concurrency: prompts that it is asked at once.
    """

    @property
    def tokenizer(self) -> Tokenizer:
        """Of the model."""

    @property
    def context_len(self) -> int:
        """Tokens that prompt and answer may have together; the last one takes no room."""

    @property
    def described(self) -> dict[str, str]:
        """See above."""

    @property
    def identity(self) -> dict[str, JsonValue]:
        """See above."""

    @property
    def concurrency(self) -> int:
        """See above."""

    def ask(self, style: Style, prompt: Prompt) -> Answer:
        """The choice, read as the style says.

        Raises:
            UserError: it does not answer, or cannot be read so.
        """

    def effort(self) -> dict[str, int]:
        """Counts of Effort that it knows."""


def longest_prompt(context_len: int, style: Style) -> int:
    """Tokens that a prompt may have, so that its whole answer has room."""
    room = context_len - style.max_new_tokens + 1
    return room if style.max_prompt_tokens is None else min(room, style.max_prompt_tokens)


def in_order(function: Callable[[T], R], items: Iterable[T], num_at_once: int) -> Iterator[R]:
    """Yields results in the order of the items; so many are worked on at once."""
    if num_at_once == 1:
        yield from map(function, items)
        return
    pool = ThreadPoolExecutor(num_at_once)
    try:
        yield from pool.map(function, items)
    finally:
        pool.shutdown(cancel_futures=True)


def describe_bundle(bundle: Bundle) -> dict[str, str]:
    """What tells one model from another: its hash, and words for people."""
    return {
        "name": bundle.path.resolve().name,
        "manifest_sha256": bundle.digest,
        "target": bundle.manifest.target,
        "weights": bundle.manifest.weights,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class OnBundle:
    """A bundle in this process.

    scheduler: fresh, so that its counters are of this run.
    """

    scheduler: Scheduler
    tokenizer: Tokenizer
    described: dict[str, str]
    concurrency = 1

    @property
    def context_len(self) -> int:
        """See Examinee."""
        return self.scheduler.engine.context_len

    @property
    def identity(self) -> dict[str, JsonValue]:
        """See Examinee."""
        return {"manifest_sha256": self.described["manifest_sha256"]}

    def ask(self, style: Style, prompt: Prompt) -> Answer:
        """See Examinee."""
        return ask(self.scheduler, self.tokenizer, style, prompt)

    def effort(self) -> dict[str, int]:
        """See Examinee."""
        engine = self.scheduler.engine
        return {
            "reused_prompts": engine.prefix_prompts,
            "reused_tokens": engine.prefix_hits,
            "computed_tokens": engine.computed_tokens,
        }
