"""What actors do in the tests of the pool; fifos say when."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from runtime.errors import EvalError, SessionError

Place = tuple[str, tuple[str, ...], str]  # node, ids of NPUs, what the driver of NPUs is told


@dataclass(slots=True)
class Where:
    """Answers with the device that it has."""

    threads: int | None
    num_at_once = 1

    async def answer(self, item: object) -> Place:
        context = ray.get_runtime_context()
        ids = tuple(context.get_accelerator_ids()["NPU"])
        return context.get_node_id(), ids, os.environ["ASCEND_RT_VISIBLE_DEVICES"]


@dataclass(slots=True)
class Threads:
    """Answers with the threads that it was made for."""

    threads: int | None
    num_at_once = 1

    async def answer(self, item: object) -> int | None:
        return self.threads


@dataclass(slots=True)
class Held:
    """Says its process to one fifo, and goes on when it can read from another."""

    directory: Path
    threads: int | None
    num_at_once = 1

    async def answer(self, item: str) -> tuple[str, int]:
        (self.directory / "asked").write_text(str(os.getpid()))
        return item + (self.directory / "go").read_text(), os.getpid()


@dataclass(slots=True)
class Failing:
    """Fails as an item says; a device fails once, in the place that has no file yet."""

    directory: Path
    threads: int | None
    num_at_once = 2

    async def answer(self, item: str) -> Any:
        if item == "wrong":
            raise EvalError("a wrong question")
        if item == "deadly":
            os.kill(os.getpid(), 9)
        try:
            (self.directory / "failed").touch(exist_ok=False)
        except FileExistsError:
            return item
        raise SessionError("the device has failed")


@dataclass(slots=True)
class Unmade:
    """Cannot be made."""

    threads: int | None
    num_at_once = 1

    def __post_init__(self) -> None:
        raise SessionError("it needs another driver", got="1", allowed="2")

    async def answer(self, item: object) -> None:
        """Is never asked."""
