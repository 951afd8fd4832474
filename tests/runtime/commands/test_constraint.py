"""Claims about the options that bind an answer: on the terminal, with a model and without."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from runtime.cli import main

jsonschema = pytest.importorskip("jsonschema")
pytest.importorskip("llguidance")

SCHEMA = {
    "type": "object",
    "properties": {"城市": {"type": "string", "maxLength": 4}, "n": {"enum": [1, 2]}},
    "required": ["城市", "n"],
    "additionalProperties": False,
}
NOWHERE = "no-such-bundle"  # so that what is refused was refused before one was looked for
WITHOUT = "import sys; sys.modules['llguidance'] = None; from runtime.cli import main; main()"
CAPITAL = "北京是哪个国家的首都？"


class Outcome(NamedTuple):
    code: object
    out: str
    err: str


Command = Callable[..., Outcome]


@pytest.fixture
def generate(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    def run(bundle: str | Path, *arguments: str | Path) -> Outcome:
        argv = ["runtime", "generate", bundle, CAPITAL, *arguments]
        monkeypatch.setattr(sys, "argv", list(map(str, argv)))
        with pytest.raises(SystemExit) as ending:
            main()
        return Outcome(ending.value.code or 0, *capsys.readouterr())

    return run


@pytest.fixture
def bundle(bundles: Path) -> Path:
    return bundles / "talk-int4"


@pytest.fixture
def schema_file(tmp_path: Path) -> Path:
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(SCHEMA, ensure_ascii=False), encoding="utf-8")
    return file


def warm(seed: int) -> tuple[str, ...]:
    return "--temperature", "2", "--seed", str(seed), "--max-tokens", "200"


def test_a_schema_binds_the_answer(schema_file: Path, bundle: Path, generate: Command) -> None:
    for seed in range(4):
        outcome = generate(bundle, "--json-schema", schema_file, *warm(seed))
        assert outcome.code == 0
        assert "finish stop" in outcome.err
        jsonschema.validate(json.loads(outcome.out), SCHEMA)


@pytest.mark.parametrize("raw", [(), ("--raw",)], ids=["chat", "raw"])
def test_an_expression_and_a_choice_match_what_is_printed(
    raw: tuple[str, ...], bundle: Path, generate: Command
) -> None:
    for seed in range(4):
        matched = generate(bundle, "--regex", "^[a-z]{2}-[一-龥]$", *warm(seed), *raw)
        assert re.fullmatch(r"[a-z]{2}-[一-龥]\n", matched.out)
        chosen = generate(bundle, "--choice", "是", "--choice", "不是", *warm(seed), *raw)
        assert chosen.out in ("是\n", "不是\n")


def test_a_grammar_binds_the_answer(tmp_path: Path, bundle: Path, generate: Command) -> None:
    file = tmp_path / "sum.lark"
    file.write_text('start: NUM ("+" NUM)~1..3\nNUM: /[1-9]/\n', encoding="utf-8")
    outcome = generate(bundle, "--lark", file, *warm(0))
    assert re.fullmatch(r"[1-9](\+[1-9]){1,3}\n", outcome.out)


def test_the_document_says_why_the_answer_ended(bundle: Path, generate: Command) -> None:
    def document(*arguments: str) -> dict[str, Any]:
        return dict(json.loads(generate(bundle, "--json", *arguments).out))

    whole = document("--choice", "yes, indeed")
    assert (whole["text"], whole["finish_reason"]) == ("yes, indeed", "stop")
    assert whole["completion_tokens"] == len(whole["token_ids"])
    cut = document("--choice", "yes, indeed", "--max-tokens", "2")
    assert cut["finish_reason"] == "length"
    assert "yes, indeed".startswith(cut["text"])


def test_only_one_option_can_bind_the_answer(generate: Command, schema_file: Path) -> None:
    outcome = generate(NOWHERE, "--json-schema", schema_file, "--choice", "a", "--choice", "b")
    assert (outcome.code, outcome.out) == (2, "")
    assert "--json-schema and --choice" in " ".join(outcome.err.split())


@pytest.mark.parametrize(
    ("option", "text", "reason"),
    [
        ("--json-schema", '{"type": "strin"}', "the JSON schema cannot be followed; got Invalid"),
        ("--json-schema", "{", "the JSON schema is not JSON"),
        ("--json-schema", None, "is missing or no regular file"),
        ("--regex", "(", "the regular expression cannot be followed; got unclosed group"),
        ("--lark", "start: a", "the Lark grammar cannot be followed; got at 1(8): unknown name"),
        ("--lark", None, "is missing or no regular file"),
    ],
)
def test_what_cannot_be_followed_is_refused_before_the_bundle_is_read(
    option: str, text: str | None, reason: str, tmp_path: Path, generate: Command
) -> None:
    file = tmp_path / "file"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    given = text if option == "--regex" and text is not None else file
    outcome = generate(NOWHERE, option, given)
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.startswith("error: ")
    assert reason in outcome.err
    assert outcome.err.count("\n") == 1


def test_without_the_package_plain_answers_work_and_the_extra_is_named(bundle: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", WITHOUT, "generate", str(bundle), CAPITAL, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert run().returncode == 0
    refused = run("--regex", "a")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "needs the Python package llguidance" in refused.stderr
    assert "install alpaca2-toolchain[constrain]" in refused.stderr
