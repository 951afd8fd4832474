"""The figures of a load from the times of its requests, as `vllm bench serve` defines them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise

from toolchain.load.exchange import Exchange
from toolchain.load.pattern import Load
from toolchain.load.result import LoadRow, Percentiles, RequestTimes

__all__ = ["is_good", "row_of"]


def row_of(
    load: Load,
    exchanges: Sequence[Exchange],
    limits: Mapping[str, float],
    began: float,
    ended: float,
) -> LoadRow:
    """Sums a load up.

    Args:
        load: what was asked for.
        exchanges: its requests.
        limits: of a good request, in ms; none for no goodput.
        began: when the load did, in seconds.
        ended: when its last request had.
    """
    good = [exchange for exchange in exchanges if exchange.failure is None]
    failures = [exchange.failure for exchange in exchanges if exchange.failure is not None]
    duration = ended - began
    prompt, completion = (
        sum(getattr(exchange, name) for exchange in good)
        for name in ("prompt_tokens", "completion_tokens")
    )
    within = sum(is_good(exchange, limits) for exchange in good)
    gaps = [1e3 * (b - a) for exchange in good for a, b in pairwise(exchange.events)]
    return LoadRow(
        clients=load.clients,
        request_rate=load.rate,
        input_tokens=load.input_tokens,
        output_tokens=load.output_tokens,
        num_requests=len(exchanges),
        completed=len(good),
        failures=dict(Counter(failure.kind for failure in failures)),
        failure_examples={failure.kind: failure.detail for failure in reversed(failures)},
        short_answers=sum(each.completion_tokens < load.output_tokens for each in good),
        late_max_ms=max((1e3 * (each.sent - each.due) for each in exchanges), default=0.0),
        duration_s=duration,
        total_prompt_tokens=prompt,
        total_completion_tokens=completion,
        requests_per_s=len(good) / duration,
        goodput_requests_per_s=within / duration if limits else None,
        output_tokens_per_s=completion / duration,
        total_tokens_per_s=(prompt + completion) / duration,
        ttft_ms=Percentiles.of([1e3 * each.ttft for each in good]),
        tpot_ms=Percentiles.of([1e3 * each.tpot for each in good if each.completion_tokens > 1]),
        itl_ms=Percentiles.of(gaps),
        e2el_ms=Percentiles.of([1e3 * each.latency for each in good]),
        requests=tuple(_times(exchange, began) for exchange in exchanges),
    )


def is_good(exchange: Exchange, limits: Mapping[str, float]) -> bool:
    """Whether an answer kept all limits, in ms; one of a single token has a TPOT of 0."""
    taken = {"ttft": exchange.ttft, "tpot": exchange.tpot, "e2el": exchange.latency}
    return all(1e3 * taken[name] <= limit for name, limit in limits.items())


def _times(exchange: Exchange, began: float) -> RequestTimes:
    known = exchange.failure is None
    return RequestTimes(
        sent_s=exchange.sent - began,
        late_ms=1e3 * (exchange.sent - exchange.due),
        ttft_ms=1e3 * exchange.ttft if known else None,
        e2el_ms=1e3 * exchange.latency if known else None,
        prompt_tokens=exchange.prompt_tokens,
        completion_tokens=exchange.completion_tokens,
        failure=None if exchange.failure is None else exchange.failure.kind,
    )
