"""Runs a batch: what is not answered yet goes to whoever has room, and each answer is kept.

Requests that the backend's faults ended are kept only once another was answered: a device that is
gone would else end them all.
"""

import asyncio
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import uuid4

from runtime.batch.answerer import Answerer, Outcome
from runtime.batch.input_file import BatchInput
from runtime.batch.request_line import BatchRequest, Ids, LineError, read_request
from runtime.batch.work_file import WorkFile
from runtime.errors import SessionError, one_line
from runtime.timing import now

__all__ = ["Tally", "Watch", "run_batch"]

MOST_FAILURES = 8  # one after the other, with no answer in between


@dataclass(slots=True, kw_only=True)
class Tally:
    """How far a run is. requests, resumed: lines in all, and those of earlier runs.

    refused: answered with an error, or no request at all.
    """

    requests: int
    resumed: int
    started: float
    answered: int = 0
    refused: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    @property
    def done(self) -> int:
        """Lines that the output will have so far."""
        return self.resumed + self.answered + self.refused

    @property
    def seconds(self) -> float:
        """Of this run."""
        return now() - self.started

    @property
    def tokens_per_s(self) -> float:
        """Tokens of answers that are complete, over the time of this run."""
        return self.completion_tokens / max(self.seconds, 1e-9)


class Watch(Protocol):
    """Is shown how a run goes."""

    def show(self, tally: Tally) -> None:
        """A line more is done."""


def run_batch(
    batch: BatchInput, work: WorkFile, answerer: Answerer, tally: Tally, watch: Watch
) -> None:
    """Answers every line that is not answered yet.

    Args:
        batch: the requests.
        work: where answers are kept.
        answerer: who answers.
        tally: counts what is done.
        watch: is shown it.

    Raises:
        UserError: a file cannot be read or written, or nobody answers any more; what is answered
            is kept.
    """
    run = _Run(batch, work, tally, watch)
    try:
        asyncio.run(run.to_its_end(answerer))
    except ExceptionGroup as group:
        raise group.exceptions[0] from None


class _Run:
    def __init__(self, batch: BatchInput, work: WorkFile, tally: Tally, watch: Watch) -> None:
        self._work, self._tally, self._watch = work, tally, watch
        self._requests = self._to_answer(batch)
        self._failed: list[tuple[int, bytes]] = []

    async def to_its_end(self, answerer: Answerer) -> None:
        """See run_batch."""
        async with asyncio.TaskGroup() as group:
            for _ in range(answerer.num_at_once):
                group.create_task(self._ask(answerer))
        self._keep_failed()

    async def _ask(self, answerer: Answerer) -> None:
        for number, request in self._requests:
            outcome = await answerer.answer(request)
            self._take(number, request.custom_id, outcome)
            await asyncio.sleep(0)  # a refusal waits for nothing, and others have answers to keep

    def _to_answer(self, batch: BatchInput) -> Iterator[tuple[int, BatchRequest]]:
        """Yields the requests without an answer; keeps what is wrong with the other lines."""
        ids = Ids()
        for line in batch.lines():
            try:
                request = read_request(line, ids)
            except LineError as error:
                if line.number not in self._work.done:
                    self._work.add(line.number, _line_of_error(line.number, error))
                    self._tally.refused += 1
                    self._watch.show(self._tally)
                continue
            if line.number not in self._work.done:
                yield line.number, request

    def _take(self, number: int, custom_id: str, outcome: Outcome) -> None:
        line = _line_of_outcome(custom_id, outcome)
        if outcome.status >= 500:
            self._failed.append((number, line))
            self._check_failures(outcome)
            return
        if outcome.status == 200:
            self._keep_failed()
            self._tally.answered += 1
            self._tally.prompt_tokens += outcome.prompt_tokens
            self._tally.completion_tokens += outcome.completion_tokens
        else:
            self._tally.refused += 1
        self._work.add(number, line)
        self._watch.show(self._tally)

    def _check_failures(self, outcome: Outcome) -> None:
        if len(self._failed) == MOST_FAILURES:
            raise SessionError(
                f"{MOST_FAILURES} requests failed one after the other",
                got=outcome.body["error"]["message"],
                next_step="look at the device; the same command goes on from here",
            )

    def _keep_failed(self) -> None:
        for number, line in self._failed:
            self._work.add(number, line)
            self._tally.refused += 1
        self._failed.clear()


def _line_of_outcome(custom_id: str, outcome: Outcome) -> bytes:
    response = {
        "status_code": outcome.status,
        "request_id": outcome.request_id,
        "body": outcome.body,
    }
    return _line(custom_id, response, None)


def _line_of_error(number: int, found: LineError) -> bytes:
    error = found.error
    told = {"code": error.code, "message": one_line(error), "param": error.param, "line": number}
    return _line(found.custom_id, None, told)


def _line(
    custom_id: str | None, response: dict[str, Any] | None, error: dict[str, Any] | None
) -> bytes:
    """A line of the output; a lone surrogate is written as JSON escapes it."""
    content = {
        "id": f"batch_req_{uuid4().hex}",
        "custom_id": custom_id,
        "response": response,
        "error": error,
    }
    return json.dumps(content, ensure_ascii=False).encode(errors="backslashreplace") + b"\n"
