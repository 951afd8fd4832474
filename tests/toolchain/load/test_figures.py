"""Claims about figures: each is counted again here, from the same times, with nothing of ours."""

import json
import random
from itertools import pairwise
from statistics import mean

import pytest

from runtime.errors import ParameterError
from toolchain.load.exchange import Exchange, Reading
from toolchain.load.figures import is_good, row_of
from toolchain.load.pattern import Load, arrivals, check_rates, loads
from toolchain.load.run import read_limits
from toolchain.remote.failure import Failure

LOAD = Load(clients=2, input_tokens=7, output_tokens=4, num_requests=3, warm_up=0)


def event(**content: object) -> bytes:
    return f"data: {json.dumps(content)}\n\n".encode()


TOKEN = event(choices=[{"text": "x"}])
USAGE = event(choices=[], usage={"prompt_tokens": 7, "completion_tokens": 4})
DONE = b"data: [DONE]\n\n"


def recorded(sent: float, times: list[float], ended: float) -> Exchange:
    """A stream whose events come at these times, and its usage and end later."""
    reading = Reading()
    for time in times:
        reading.add(TOKEN, time)
    reading.add(USAGE + DONE, ended)
    return reading.result(sent, sent, ended, None)


def quantile(samples: list[float], share: float) -> float:
    """Linear between samples, as numpy and vLLM have it."""
    ordered = sorted(samples)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


@pytest.mark.parametrize("seed", range(20))
def test_every_figure_follows_from_the_times(seed: int) -> None:
    rng = random.Random(seed)
    began, streams = 100.0, []
    for _ in range(rng.randrange(1, 30)):
        sent = began + rng.uniform(0, 5)
        times = sorted(sent + rng.uniform(0.05, 9) for _ in range(4))
        streams.append((sent, times, times[-1] + 0.5))
    ended = max(end for *_, end in streams)
    row = row_of(LOAD, [recorded(*stream) for stream in streams], {}, began, ended)
    ttft = [1e3 * (times[0] - sent) for sent, times, _ in streams]
    tpot = [1e3 * (times[3] - times[0]) / 3 for _, times, _ in streams]
    itl = [1e3 * (b - a) for _, t, _ in streams for a, b in pairwise(t)]
    e2el = [1e3 * (times[3] - sent) for sent, times, _ in streams]
    for found, samples in (
        (row.ttft_ms, ttft),
        (row.tpot_ms, tpot),
        (row.itl_ms, itl),
        (row.e2el_ms, e2el),
    ):
        assert found is not None
        assert found.mean == pytest.approx(mean(samples))
        for share, value in ((0.5, found.p50), (0.9, found.p90), (0.99, found.p99)):
            assert value == pytest.approx(quantile(samples, share))
        assert found.max == pytest.approx(max(samples))
    duration, number = ended - began, len(streams)
    assert row.requests_per_s == pytest.approx(number / duration)
    assert row.output_tokens_per_s == pytest.approx(4 * number / duration)
    assert row.total_tokens_per_s == pytest.approx(11 * number / duration)
    assert (row.completed, row.failures, row.goodput_requests_per_s) == (number, {}, None)


def test_goodput_counts_the_answers_that_keep_every_limit() -> None:
    streams = [
        recorded(0.0, [0.1, 0.2, 0.3, 0.4], 1.0),  # ttft 100 ms, tpot 100 ms
        recorded(0.0, [0.3, 0.3, 0.3, 0.3], 1.0),  # ttft 300 ms, tpot 0
        recorded(0.0, [0.1, 0.5, 0.9, 1.3], 2.0),  # ttft 100 ms, tpot 400 ms
    ]
    limits = {"ttft": 200.0, "tpot": 100.1}
    assert [is_good(each, limits) for each in streams] == [True, False, False]
    assert row_of(LOAD, streams, limits, 0.0, 2.0).goodput_requests_per_s == 0.5
    assert is_good(streams[1], {"e2el": 300.0})
    assert not is_good(streams[0], {"e2el": 300.0})


def test_what_failed_is_counted_by_kind_and_is_in_no_figure() -> None:
    good = recorded(0.0, [0.1, 0.2, 0.3, 0.4], 1.0)
    refused = Reading().result(0.0, 0.0, 9.0, Failure("http_503", "full"))
    again = Reading().result(0.0, 0.5, 9.5, Failure("http_503", "still full"))
    row = row_of(LOAD, [refused, good, again], {"ttft": 1e6}, 0.0, 10.0)
    assert row.failures == {"http_503": 2}
    assert row.failure_examples == {"http_503": "full"}
    assert (row.completed, row.num_requests, row.total_completion_tokens) == (1, 3, 4)
    assert row.ttft_ms is not None
    assert row.ttft_ms.max == pytest.approx(100)
    assert row.goodput_requests_per_s == 0.1
    assert row.late_max_ms == 500
    assert [each.failure for each in row.requests] == ["http_503", None, "http_503"]
    empty = row_of(LOAD, [refused], {}, 0.0, 10.0)
    assert (empty.ttft_ms, empty.output_tokens_per_s) == (None, 0)


@pytest.mark.parametrize(
    ("data", "failure", "kind"),
    [
        (TOKEN + USAGE + DONE, None, None),
        (event(choices=[{"text": ""}]) + USAGE + DONE, None, None),  # counts, as in vLLM
        (TOKEN + USAGE, None, "disconnected"),
        (TOKEN + USAGE, Failure("timed_out", ""), "timed_out"),
        (USAGE + DONE, None, "no_tokens"),
        (TOKEN + DONE, None, "no_usage"),
        (TOKEN + event(choices=[], usage={"prompt_tokens": 1}) + DONE, None, "no_usage"),
        (TOKEN + event(error={"message": "broken"}) + DONE, None, "stream_error"),
        (TOKEN + event(error={"message": "broken"}), None, "stream_error"),
        (b"data: {\n\n" + USAGE + DONE, None, "bad_reply"),
        (b"data: " + b"[" * 100_000 + b"\n\n" + USAGE + DONE, None, "bad_reply"),
        (b"data: [1]\n\n" + USAGE + DONE, None, "bad_reply"),
        (b"data: \xff\n\n" + USAGE + DONE, None, "bad_reply"),
    ],
)
def test_a_stream_that_is_not_whole_fails_by_its_kind(
    data: bytes, failure: Failure | None, kind: str | None
) -> None:
    reading = Reading()
    reading.add(data, 1.0)
    found = reading.result(0.0, 0.0, 2.0, failure).failure
    assert (found and found.kind) == kind


def test_arrivals_have_the_very_rate_and_are_random() -> None:
    times = arrivals(4.0, 1000, random.Random(0))
    assert times == arrivals(4.0, 1000, random.Random(0)) != arrivals(4.0, 1000, random.Random(1))
    assert times == sorted(times)
    assert times[-1] == pytest.approx(1000 / 4)
    gaps = [b - a for a, b in zip([0.0, *times], times, strict=False)]
    assert mean(gap**2 for gap in gaps) / mean(gaps) ** 2 == pytest.approx(
        2, rel=0.2
    )  # exponential


def test_loads_are_all_pairs_at_all_numbers_of_clients_and_rates() -> None:
    found = loads([(8, 2), (9, 3)], [1, 4], [0.5], 10, None)
    assert [(each.name, each.input_tokens, each.warm_up) for each in found] == [
        ("1 client", 8, 1),
        ("4 clients", 8, 4),
        ("0.5 requests/s", 8, 1),
        ("1 client", 9, 1),
        ("4 clients", 9, 4),
        ("0.5 requests/s", 9, 1),
    ]
    assert {each.warm_up for each in loads([(8, 2)], [4], [], 10, 0)} == {0}


@pytest.mark.parametrize("text", ["ttft", "ttft:", "ttft:0", "ttft:nan", "ttft:inf", "itl:5"])
def test_a_limit_that_is_none_is_named(text: str) -> None:
    with pytest.raises(ParameterError, match="--goodput"):
        read_limits([text])
    assert read_limits(["ttft:500", "tpot:50.5"]) == {"ttft": 500.0, "tpot": 50.5}


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_named(rate: float) -> None:
    with pytest.raises(ParameterError, match="--request-rate"):
        check_rates([rate])
