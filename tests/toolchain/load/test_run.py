"""Claims about putting load on a server: on ours, and on one that answers badly."""

import json
from pathlib import Path

import pytest

from runtime.progress import SILENT
from tests.serving import make_service, ready
from tests.toolchain.remote.fake_server import Fake, Play, fake_server, refuse, stream
from toolchain.errors import RemoteError
from toolchain.load.pattern import Load
from toolchain.load.result import LoadResult
from toolchain.load.run import Wanted, run_loads
from toolchain.load.tables import facts, load_tables, markdown, remarks
from toolchain.remote.address import Address
from toolchain.remote.server import open_server


def closed(clients: int, num_requests: int, warm_up: int = 0) -> Load:
    return Load(
        clients=clients,
        input_tokens=12,
        output_tokens=3,
        num_requests=num_requests,
        warm_up=warm_up,
    )


def opened(rate: float, num_requests: int) -> Load:
    return Load(rate=rate, input_tokens=12, output_tokens=3, num_requests=num_requests, warm_up=1)


def run(
    url: str, *loads: Load, chat: bool = False, file: Path | None = None, seed: int = 0
) -> LoadResult:
    address = Address(root=url, timeout=60)
    wanted = Wanted(loads=loads, model=None, chat=chat, seed=seed, limits={"e2el": 1e6})
    with open_server(address, lambda _: None) as server:
        return run_loads(wanted, server, address, file, SILENT)


def test_our_server_answers_every_request_with_as_many_tokens_as_asked_for(
    bundles: Path, tmp_path: Path
) -> None:
    with ready(make_service(bundles / "talk-int4")) as serving:
        file = tmp_path / "load.json"
        result = run(serving.url, closed(1, 3, 1), closed(3, 6, 3), opened(1000, 4), file=file)
        assert LoadResult.model_validate_json(file.read_bytes()) == result
        assert (result.model, result.prompts) == ("talk-int4", "token ids")
        for row, number in zip(result.rows, (3, 6, 4), strict=True):
            assert (row.completed, row.failures, row.short_answers) == (number, {}, 0)
            assert (row.total_prompt_tokens, row.total_completion_tokens) == (
                12 * number,
                3 * number,
            )
            assert row.goodput_requests_per_s == row.requests_per_s
        assert serving.metric("generation_tokens_total") == 3 * (1 + 3 + 3 + 6 + 1 + 4)
        result = run(serving.url, closed(2, 4), chat=True)
        assert (result.prompts, result.rows[0].total_completion_tokens) == ("text", 12)


def test_the_same_seed_asks_the_same_and_another_one_does_not() -> None:
    asked = []
    for seed in (0, 0, 1):
        fake = Fake(plays=(stream("a", "b", "c"),), others={"/tokenize": {"tokens": [5, 6, 7]}})
        with fake_server(fake) as url:
            run(url, closed(1, 4), seed=seed)
        asked.append([body["prompt"] for body in fake.asked])
    assert asked[0] == asked[1] != asked[2]
    assert [len(prompt) for prompt in asked[0]] == [12] * 4
    assert len({tuple(prompt) for prompt in asked[0]}) == 4


def test_a_server_without_a_tokenizer_is_asked_with_text() -> None:
    fake = Fake(plays=(stream("a", "b", "c"),))
    with fake_server(fake) as url:
        assert run(url, closed(1, 2)).prompts == "text"
    assert [len(body["prompt"].split()) for body in fake.asked] == [9, 9]  # 12 tokens, about


def test_what_goes_wrong_is_counted_by_kind_and_told() -> None:
    plays: tuple[Play, ...] = (
        refuse(503, "full", Retry_After="1"),
        stream("a", error="broken", usage=False),
        stream("a", cut=True),
        stream("a", done=False),
        stream("a", "b", "c", usage=False),
        stream(),
        refuse(400, "no ignore_eos"),
        stream("a", "b"),
        stream("a", "b", "c"),
    )
    with fake_server(Fake(plays=plays)) as url:
        result = run(url, closed(1, len(plays)))
    [row] = result.rows
    assert row.failures == {
        "http_503": 1,
        "stream_error": 1,
        "disconnected": 2,
        "no_usage": 1,
        "no_tokens": 1,
        "http_400": 1,
    }
    assert (row.completed, row.short_answers, row.total_completion_tokens) == (2, 1, 5)
    told = "\n".join(remarks(result))
    assert "1 client, 9, 2: 1 x http_503: full" in told
    assert "1 x stream_error: broken" in told
    assert "1 answers have fewer tokens than asked for" in told
    assert told in markdown(result).replace("\n- ", "\n")


@pytest.mark.parametrize("warm_up", [0, 1])
def test_a_server_that_answers_nothing_ends_the_run(warm_up: int) -> None:
    fake = Fake(plays=(refuse(400, "no ignore_eos"),))
    with (
        fake_server(fake) as url,
        pytest.raises(RemoteError, match="http 400; got no ignore_eos"),
    ):
        run(url, closed(2, 5, warm_up))
    assert len(fake.asked) == (warm_up or 5)


def test_the_tables_say_what_the_document_says() -> None:
    with fake_server(Fake(plays=(stream("a", "b", "c"),))) as url:
        result = run(url, closed(2, 4))
    rates, times = load_tables(result)
    [row] = result.rows
    assert rates.rows[0][:4] == ("2 clients", "9, 3", "4", "0")
    assert row.ttft_ms is not None
    assert times.rows[0][2] == f"{row.ttft_ms.p50:.0f}"
    assert len(times.columns) == len(times.rows[0]) == 14
    assert url in next(facts(result))
    assert json.loads(result.model_dump_json())["format"] == "alpaca2-load"
