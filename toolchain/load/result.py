"""What load on a server gives, as its JSON has it: every figure's unit is in its key."""

from collections.abc import Sequence
from typing import Literal, Self

import numpy as np

from runtime.record import Record
from toolchain.bench.result import Machine

__all__ = ["LIMITED", "LoadResult", "LoadRow", "Percentiles", "RequestTimes"]

LIMITED = ("ttft", "tpot", "e2el")  # what goodput may have a limit of, in ms


class Percentiles(Record):
    """One figure over the requests; linear between samples."""

    mean: float
    p50: float
    p90: float
    p99: float
    max: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> Self | None:
        """Sums up; None of nothing."""
        if not samples:
            return None
        p50, p90, p99 = map(float, np.percentile(samples, (50, 90, 99)))
        mean, most = float(np.mean(samples)), max(samples)
        return cls(mean=mean, p50=p50, p90=p90, p99=p99, max=most)


class RequestTimes(Record):
    """One request; sent_s is since the load began, and failure is its kind."""

    sent_s: float
    late_ms: float
    ttft_ms: float | None = None
    e2el_ms: float | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    failure: str | None = None


class LoadRow(Record):
    """One load. docs/benchmarks.md defines every figure.

    clients, request_rate: one of them is None.
    input_tokens, output_tokens: asked for; the totals are what the server counted.
    failures: kind -> requests; failure_examples: kind -> what the first one was told.
    short_answers: with fewer tokens than asked for.
    late_max_ms: how late this client sent a request of an open loop at most.
    """

    clients: int | None
    request_rate: float | None
    input_tokens: int
    output_tokens: int
    num_requests: int
    completed: int
    failures: dict[str, int]
    failure_examples: dict[str, str]
    short_answers: int
    late_max_ms: float
    duration_s: float
    total_prompt_tokens: int
    total_completion_tokens: int
    requests_per_s: float
    goodput_requests_per_s: float | None
    output_tokens_per_s: float
    total_tokens_per_s: float
    ttft_ms: Percentiles | None
    tpot_ms: Percentiles | None
    itl_ms: Percentiles | None
    e2el_ms: Percentiles | None
    requests: tuple[RequestTimes, ...]


class LoadResult(Record):
    """All loads on one model of one server.

    limits: metric -> ms that a good request keeps.
    prompts: token ids or text.
    client: the machine that asked.
    """

    format: Literal["alpaca2-load"] = "alpaca2-load"
    version: Literal[1] = 1
    url: str
    model: str
    api: Literal["completions", "chat"]
    prompts: str
    seed: int
    limits: dict[str, float]
    date: str
    tool: str
    client: Machine
    rows: tuple[LoadRow, ...]
