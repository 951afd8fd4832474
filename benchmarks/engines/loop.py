"""What every engine's process does: read a command on stdin, answer a JSON document on stdout.

    prefill N    {"ms": [t]}: a new sequence of N random ids, until the next token is known
    decode C N   {"ms": [t, ...]}: C tokens, then N greedy steps of one token each
    whole C N    the same with the time of the C tokens before the steps
    memory       {"rss": MB, "pss": MB, "anonymous": MB, "peak": MB} of this process

The first line says what was opened. Nothing here knows which engine it is.
"""

import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Protocol

__all__ = ["Engine", "Facts", "num_threads", "serve"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a table says of an engine and its model.

    weight_bytes: weights that one token needs, all but the table of embeddings.
    cache_bytes: keys and values of one position in all layers.
    """

    version: str
    settings: str
    weight_bytes: int
    cache_bytes: int


class Engine(Protocol):
    """A loaded model, ready for its first prompt."""

    vocab_size: int

    def facts(self) -> Facts:
        """Looks up what it is."""
        ...

    def times(self, token_ids: list[int], num_tokens: int) -> list[float]:
        """Runs a new sequence and says when each greedy token was known, by perf_counter."""
        ...


def num_threads() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def serve(open_engine: Callable[[Path, int], Engine]) -> None:
    """Opens the model that the command line names, then answers commands until stdin ends.

    Arguments of the command line: the model's path, and positions that a sequence may have.
    """
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what an engine's library prints is no answer
    path, context_len = Path(sys.argv[1]), int(sys.argv[2])
    _read_once(path)
    started = time.perf_counter()
    engine = open_engine(path, context_len)
    loaded = time.perf_counter() - started
    print(json.dumps({"load_s": loaded, **asdict(engine.facts())}), file=answers)
    for line in sys.stdin:
        print(json.dumps(_answer(engine, line.split())), file=answers)


def _answer(engine: Engine, command: list[str]) -> dict[str, object]:
    match command:
        case ["prefill", length]:
            return {"ms": _times(engine, int(length), 1)}
        case ["decode", context, steps]:
            return {"ms": _times(engine, int(context), 1 + int(steps))[1:]}
        case ["whole", context, steps]:
            return {"ms": _times(engine, int(context), 1 + int(steps))}
        case ["memory"]:
            return dict(_memory())
        case _:
            raise ValueError(f"no such command: {command}")


def _times(engine: Engine, length: int, num_tokens: int) -> list[float]:
    """Milliseconds until each token, from the one before it."""
    token_ids = random.choices(range(3, engine.vocab_size), k=length)
    started = time.perf_counter()
    marks = [started, *engine.times(token_ids, num_tokens)]
    assert len(marks) == 1 + num_tokens, "no sequence ends before"
    return [1000 * (after - before) for before, after in pairwise(marks)]


def _read_once(path: Path) -> None:
    """Brings the model into the page cache."""
    for file in [path] if path.is_file() else path.rglob("*"):
        if file.is_file():
            with file.open("rb", buffering=0) as stream:
                while stream.read(1 << 24):
                    pass


def _memory() -> Iterator[tuple[str, float]]:
    lines = [
        *Path("/proc/self/smaps_rollup").read_text().splitlines()[1:],
        *Path("/proc/self/status").read_text().splitlines(),
    ]
    fields = dict(line.split(":", 1) for line in lines)
    for name, field in (
        ("rss", "Rss"),
        ("pss", "Pss"),
        ("anonymous", "Anonymous"),
        ("peak", "VmHWM"),
    ):
        yield name, 1024 * int(fields[field].split()[0]) / 1e6
