"""What Prometheus reads: the names, units and buckets of vLLM, with our prefix.

No label has a value that a client can choose. Times are those of the process's clock.
"""

from collections.abc import Callable
from importlib.metadata import version
from typing import TypeAlias

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

from runtime.engine.sequence import FinishReason
from runtime.errors import UserError

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "runtime"
Buckets: TypeAlias = tuple[float, ...]
# vLLM's buckets, in seconds and tokens.
LONG: Buckets = (10.0, 20.0, 40.0, 80.0)
FIRST_TOKEN: Buckets = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5)
FIRST_TOKEN = (*FIRST_TOKEN, 5.0, 7.5, *LONG, 160.0, 640.0, 2560.0)
BETWEEN: Buckets = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
BETWEEN = (*BETWEEN, 5.0, 7.5, *LONG)
LATENCY: Buckets = (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0)
LATENCY = (*LATENCY, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0)
TOKENS: Buckets = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000)


class Metrics:
    """The metrics of one server, in a registry of their own."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = CollectorRegistry()
        counter = self._counter
        self.responses = counter("http_responses", "Responses", "route", "status")
        self.success = counter("request_success", "Answers by how they ended", "finished_reason")
        self.rejected = counter("requests_rejected", "Requests refused, by code", "reason")
        self.cancelled = counter("requests_cancelled", "Answers whose client left", "phase")
        self.prompt_tokens = counter("prompt_tokens", "Tokens of prompts")
        self.generation_tokens = counter("generation_tokens", "Tokens of answers")
        self.nonfinite_logits = counter("nonfinite_logits", "Answers ended by unusable logits")
        self.unknown_fields = counter("unknown_fields", "Unknown fields of requests")
        self.queue_time = self._histogram(
            "request_queue_time_seconds", "Arrival to a slot", LATENCY
        )
        self.first_token = self._histogram(
            "time_to_first_token_seconds", "Arrival to first token", FIRST_TOKEN
        )
        self.between = self._histogram(
            "inter_token_latency_seconds", "Between two tokens of an answer", BETWEEN
        )
        self.latency = self._histogram(
            "e2e_request_latency_seconds", "Arrival to last token", LATENCY
        )
        self.request_prompt = self._histogram("request_prompt_tokens", "Tokens of a prompt", TOKENS)
        self.request_generation = self._histogram(
            "request_generation_tokens", "Tokens of an answer", TOKENS
        )
        self.build = Gauge(
            f"{PREFIX}_build_info",
            "What runs; always 1",
            ["version", "bundle_sha256", "backend"],
            registry=self.registry,
        )

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(f"{PREFIX}_{name}", about, labels, registry=self.registry)

    def _histogram(self, name: str, about: str, buckets: Buckets) -> Histogram:
        return Histogram(f"{PREFIX}_{name}", about, buckets=buckets, registry=self.registry)

    def gauge(self, name: str, about: str, read: Callable[[], float]) -> None:
        """A figure that is read when Prometheus asks."""
        Gauge(f"{PREFIX}_{name}", about, registry=self.registry).set_function(read)

    def tell_build(self, bundle_sha256: str, backend: str) -> None:
        """Says what runs."""
        self.build.labels(version("alpaca2-toolchain"), bundle_sha256, backend).set(1)

    # What Counts asks for.

    def took_prompts(self, num_tokens: int) -> None:
        """See Counts."""
        self.prompt_tokens.inc(num_tokens)

    def made_first_token(self, queued: float, taken: float) -> None:
        """See Counts."""
        self.queue_time.observe(queued)
        self.first_token.observe(taken)
        self.generation_tokens.inc()

    def made_token(self, taken: float) -> None:
        """See Counts."""
        self.between.observe(taken)
        self.generation_tokens.inc()

    def ended(
        self, finish_reason: FinishReason, taken: float, prompt_tokens: int, tokens: int
    ) -> None:
        """See Counts."""
        self.success.labels(finish_reason).inc()
        self.latency.observe(taken)
        self.request_prompt.observe(prompt_tokens)
        self.request_generation.observe(tokens)

    def cancelled_in(self, phase: str) -> None:
        """See Counts."""
        self.cancelled.labels(phase).inc()

    def failed(self, error: Exception) -> None:
        """See Counts."""
        if isinstance(error, UserError) and error.code == "unusable_logits":
            self.nonfinite_logits.inc()

    def text(self) -> bytes:
        """All of them, as Prometheus reads them."""
        return generate_latest(self.registry)
