"""runtime batch answers a file as the server answers its requests, and ends whatever is in it."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.dialogues import CAPITAL, LLAMA, STEPS
from tests.runtime import test_cli as command_line
from tests.runtime.batch.files import CHAT, TEXT, by_id, read_lines, request, same, write_lines
from tests.runtime.server.test_sameness import case
from tests.runtime.test_cli import Command, check_refusal, fresh
from tests.serving import Serving, make_service, ready

bundle, command = command_line.bundle, command_line.command  # fixtures
ECHO = {"prompt": ["北京", "box"], "temperature": 0, "echo": True, "model": "talk-int4"}
QUESTIONS = [{"role": "user", "content": dialogue[0]} for dialogue in (CAPITAL, LLAMA, STEPS)]


@pytest.fixture(scope="module")
def server(bundles: Path) -> Iterator[Serving]:
    with ready(make_service(bundles / "talk-int4", max_requests=1000)) as serving:
        yield serving


def bodies() -> Iterator[tuple[str, dict[str, Any]]]:
    """Of both kinds, greedy and seeded, and some that are refused."""
    for seed in range(30):
        yield TEXT, case(seed)
    for question in QUESTIONS:
        yield CHAT, {"messages": [question], "temperature": 0}
    yield CHAT, {"messages": [QUESTIONS[0]], "temperature": 2, "seed": 7, "n": 3, "max_tokens": 9}
    yield CHAT, {"messages": [QUESTIONS[1]], "temperature": 0, "logprobs": True, "top_logprobs": 2}
    yield (
        TEXT,
        {"prompt": ["北京", [1, 5, 9]], "temperature": 0, "echo": True, "model": "talk-int4"},
    )
    yield CHAT, {"messages": []}
    yield CHAT, {"messages": [QUESTIONS[0]], "model": "another"}
    yield CHAT, {"messages": [QUESTIONS[0]], "temperature": -1}
    yield CHAT, {"messages": [QUESTIONS[0]], "tool_choice": "required"}
    yield CHAT, {"messages": [{"role": "user", "content": "box " * 9999}]}
    yield TEXT, {"prompt": "a", "max_tokens": 10**6}
    yield TEXT, {"prompt": "a", "logit_bias": {"99999": 1}}
    yield TEXT, {}


def test_every_body_has_the_status_and_the_body_that_the_server_gives(
    server: Serving, bundle: Path, tmp_path: Path, command: Command
) -> None:
    asked = {str(i): each for i, each in enumerate(bodies())}
    file = write_lines(tmp_path / "in", [request(i, url, **b) for i, (url, b) in asked.items()])
    output = tmp_path / "out.jsonl"
    assert command("batch", bundle, file, "-o", output).code == 0
    answers = by_id(output)
    assert answers.keys() == asked.keys()
    with server.http() as http:
        for i, (url, body) in asked.items():
            expected, line = http.post(url, json=body), answers[i]
            assert line["error"] is None
            assert line["response"]["status_code"] == expected.status_code
            assert same(line["response"]["body"]) == same(expected.json())
    assert {line["response"]["status_code"] for line in answers.values()} == {200, 400, 404}


def test_a_line_is_what_openai_has(bundle: Path, tmp_path: Path, command: Command) -> None:
    file = write_lines(tmp_path / "in", [request("a", CHAT, messages=[QUESTIONS[1]])])
    command("batch", bundle, file, "-o", tmp_path / "out")
    [line] = read_lines(tmp_path / "out")
    assert list(line) == ["id", "custom_id", "response", "error"]
    assert list(line["response"]) == ["status_code", "request_id", "body"]
    assert line["response"]["body"]["choices"][0]["message"]["content"] == LLAMA[1]


WRONG: list[tuple[object, str, str | None]] = [
    ("{", "the line is no JSON; got ", None),
    ("[" * 5000, "the line is no JSON; got too many levels", None),
    ("[]", "the line is no JSON object; got list", None),
    (b"\xff".decode("latin-1"), "the line is no JSON; got ", None),
    ({"method": "POST", "url": TEXT, "body": {}}, "custom_id: Field required", None),
    (request(""), "custom_id: String should have at least 1 character", None),
    ({**request("b"), "custom_id": 7}, "custom_id: Input should be a valid string; got 7", None),
    ({**request("c"), "method": "GET"}, "method: Input should be 'POST'; got 'GET'", "c"),
    (request("d", "/v1/embeddings"), "url: Input should be '/v1/chat/completions' or", "d"),
    ({**request("e"), "body": []}, "body: Input should be a valid dictionary; got []", "e"),
    (
        request("a", prompt="b"),
        "the custom_id is that of another line; got 'a', as in line 1",
        None,
    ),
    (
        request("d", prompt="b"),
        "the custom_id is that of another line; got 'd', as in line 10",
        None,
    ),
]


def test_a_line_that_is_no_request_is_an_error_with_its_number_and_ends_nothing(
    bundle: Path, tmp_path: Path, command: Command
) -> None:
    lines = [request("a", prompt="a", max_tokens=1), *(line for line, *_ in WRONG)]
    file = write_lines(tmp_path / "in", [*lines, request("z", prompt="a", max_tokens=1)])
    outcome = command("batch", bundle, file, "-o", tmp_path / "out", "--keep-order")
    assert (outcome.code, outcome.out) == (0, "")
    first, *wrong, last = read_lines(tmp_path / "out")
    assert (first["custom_id"], last["custom_id"]) == ("a", "z")
    assert first["response"]["status_code"] == last["response"]["status_code"] == 200
    for number, ((_, message, custom_id), line) in enumerate(zip(WRONG, wrong, strict=True), 2):
        assert (line["custom_id"], line["response"]) == (custom_id, None)
        assert line["error"]["message"].startswith(message)
        assert (line["error"]["line"], line["error"]["code"]) == (number, "invalid_value")


def test_a_line_without_end_costs_no_memory_and_the_next_is_answered(
    bundle: Path, tmp_path: Path, command: Command
) -> None:
    long = json.dumps(request("long", prompt="a" * (1 << 24)))
    lines = ["", long, "  ", request("short", prompt="a", max_tokens=1)]
    write_lines(tmp_path / "in", lines)
    command("batch", bundle, tmp_path / "in", "-o", tmp_path / "out", "--keep-order")
    wrong, right = read_lines(tmp_path / "out")
    assert wrong["error"]["message"] == "the line is too long; allowed: up to 16777216 bytes"
    assert wrong["error"]["line"] == 2
    assert right["custom_id"] == "short"


def test_a_stream_is_refused(bundle: Path, tmp_path: Path, command: Command) -> None:
    write_lines(tmp_path / "in", [request("a", prompt="a", stream=True)])
    command("batch", bundle, tmp_path / "in", "-o", tmp_path / "out")
    [line] = read_lines(tmp_path / "out")
    assert line["response"]["status_code"] == 400
    assert line["response"]["body"]["error"]["message"].startswith("a batch has no streams")


def test_the_order_is_kept_on_request(bundles: Path, tmp_path: Path, command: Command) -> None:
    bundle = bundles / "small-fp32"  # three sequences side by side
    settings: dict[str, Any] = {"prompt": "ab", "temperature": 0, "ignore_eos": True}
    lengths = [30, 1, 2, 1, 25, 1, 1, 3]
    lines = [request(str(i), max_tokens=n, **settings) for i, n in enumerate(lengths)]
    write_lines(tmp_path / "in", lines)
    command("batch", bundle, tmp_path / "in", "-o", tmp_path / "free")
    command("batch", bundle, tmp_path / "in", "-o", tmp_path / "kept", "--keep-order")
    free, kept = (list(by_id(tmp_path / name)) for name in ("free", "kept"))
    assert kept == [str(i) for i in range(8)]
    assert sorted(free) == kept != free


def test_json_sums_up(bundle: Path, tmp_path: Path, command: Command) -> None:
    lines = [request("a", prompt="a", max_tokens=3, ignore_eos=True), request("b"), "{"]
    write_lines(tmp_path / "in", lines)
    outcome = command("batch", bundle, tmp_path / "in", "-o", tmp_path / "out", "--json")
    document = json.loads(outcome.out)
    assert (document["format"], document["version"]) == ("alpaca2-batch", 1)
    counts = [document[name] for name in ("requests", "resumed", "answered", "refused")]
    assert counts == [3, 0, 1, 2]
    assert document["completion_tokens"] == 3
    assert document["tokens_per_s"] > 0


def test_standard_input_is_read_and_no_line_of_it_is_lost(bundle: Path, tmp_path: Path) -> None:
    write_lines(tmp_path / "in", [request(str(i), prompt="a", max_tokens=1) for i in range(9)])
    data = (tmp_path / "in").read_bytes().removesuffix(b"\n")
    outcome = fresh("batch", bundle, "-", "-o", tmp_path / "out", typed=data)
    assert (outcome.code, outcome.out) == (0, "")
    assert "9 answered, 0 refused" in outcome.err
    assert by_id(tmp_path / "out").keys() == set("012345678")


def test_no_requests_are_no_answers(bundle: Path, tmp_path: Path, command: Command) -> None:
    write_lines(tmp_path / "in", [])
    assert command("batch", bundle, tmp_path / "in", "-o", tmp_path / "out").code == 0
    assert (tmp_path / "out").read_bytes() == b""


def test_an_output_that_is_there_is_never_replaced(
    bundle: Path, tmp_path: Path, command: Command
) -> None:
    write_lines(tmp_path / "in", [request("a", prompt="a")])
    (tmp_path / "out").write_text("precious")
    outcome = command("batch", bundle, tmp_path / "in", "-o", tmp_path / "out")
    check_refusal(outcome, f"{tmp_path / 'out'} is there already; it is complete if")
    assert (tmp_path / "out").read_text() == "precious"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["in", "out"]


def test_a_missing_input_is_refused_and_leaves_nothing(
    bundle: Path, tmp_path: Path, command: Command
) -> None:
    outcome = command("batch", bundle, tmp_path / "in", "-o", tmp_path / "out")
    check_refusal(outcome, f"{tmp_path / 'in'} is missing or a directory")
    assert not list(tmp_path.iterdir())


def test_nothing_of_http_is_imported(bundle: Path, tmp_path: Path) -> None:
    write_lines(tmp_path / "in", [request("a", prompt="a", max_tokens=1)])
    told = tmp_path / "modules"
    arguments: list[str | Path] = ["batch", bundle, tmp_path / "in", "-o", tmp_path / "out"]
    script = command_line.TELL_MODULES.format(str(told))
    subprocess.run([sys.executable, "-c", script, *arguments], check=True, capture_output=True)
    modules = {name.split(".")[0] for name in told.read_text().split()}
    assert modules.isdisjoint({"fastapi", "starlette", "uvicorn", "prometheus_client", "torch"})
    assert "pydantic_settings" not in modules


def test_a_bundle_that_cannot_be_opened_leaves_nothing(
    bundle: Path, tmp_path: Path, command: Command
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(bundle, broken)
    (broken / "tokenizer.model").write_bytes(b"altered")
    write_lines(tmp_path / "in", [request("a", prompt="a")])
    outcome = command("batch", broken, tmp_path / "in", "-o", tmp_path / "out")
    check_refusal(outcome, f"tokenizer.model in {broken} has another size")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["broken", "in"]


@pytest.mark.parametrize(
    ("device", "said"), [("0,0", "twice"), ("", "numbers"), ("0,x", "numbers"), ("-1", "numbers")]
)
def test_devices_are_numbers_and_each_stands_once(
    device: str, said: str, bundle: Path, tmp_path: Path, command: Command
) -> None:
    outcome = command("batch", bundle, "-", "-o", tmp_path / "out", f"--device={device}")
    assert outcome.code == 2
    assert said in outcome.err


def test_a_cpu_is_one_device(bundle: Path, tmp_path: Path, command: Command) -> None:
    outcome = command("batch", bundle, "-", "-o", tmp_path / "out", "--device", "0,1")
    check_refusal(outcome, "backend onnxruntime has one device; got device 0,1; allowed: 0")
