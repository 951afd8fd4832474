"""Questions come in as people and their editors write them, and are refused before any work."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.dialogues import CAPITAL
from tests.runtime import test_cli as command_line
from tests.runtime.test_cli import MAIN, Command, check_refusal, fresh

bundle, command = command_line.bundle, command_line.command  # fixtures


@pytest.mark.parametrize(
    "written",
    [
        CAPITAL[0].encode(),
        CAPITAL[0].encode() + b"\r\n",
        b"\xef\xbb\xbf" + CAPITAL[0].encode() + b"\n",
    ],
)
def test_a_question_of_any_editor_is_the_same_question(
    written: bytes, bundle: Path, tmp_path: Path
) -> None:
    file = tmp_path / "question.txt"
    file.write_bytes(written)
    for outcome in (
        fresh("generate", bundle, "-", "--json", typed=written),
        fresh("generate", bundle, "--file", file, "--json"),
    ):
        document = json.loads(outcome.out)
        assert (document["prompt_tokens"], document["text"]) == (32, CAPITAL[1])


def test_without_standard_input_a_question_is_refused_and_a_chat_is_over(bundle: Path) -> None:
    for arguments, code, says in (
        (("generate", bundle, "-"), 1, "error: standard input is closed; give the prompt"),
        (("chat", bundle), 0, "/exit leaves."),
    ):
        done = subprocess.run(
            ["sh", "-c", 'exec "$@" <&-', "sh", sys.executable, "-c", MAIN, *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout) == (code, "")
        assert says in done.stderr
        assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("arguments", [("-",), ("--file", "/dev/zero")])
def test_a_question_without_end_is_refused(arguments: tuple[str, ...], bundle: Path) -> None:
    with open("/dev/zero", "rb") as endless:
        done = subprocess.run(
            [sys.executable, "-c", MAIN, "generate", bundle, *arguments],
            stdin=endless,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30)),
            capture_output=True,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stdout) == (1, "")
    assert " is too long; allowed: up to 67108864 bytes; shorten it" in done.stderr


@pytest.mark.parametrize("locale", ["C", "C.UTF-8", "en_US"])
def test_a_locale_that_is_not_set_up_changes_nothing(
    locale: str, bundle: Path, tmp_path: Path
) -> None:
    """Under ISO-8859-1 a Chinese question came in as twice as many letters, its answer as ???."""
    subprocess.run(
        ["localedef", "-i", "en_US", "-f", "ISO-8859-1", tmp_path / "en_US"],
        capture_output=True,
        check=False,
    )
    environment = {**os.environ, "LOCPATH": str(tmp_path), "LC_ALL": locale}
    environment.pop("PYTHONIOENCODING", None)
    for arguments, typed in ((CAPITAL[0],), b""), (("-",), CAPITAL[0].encode()):
        done = subprocess.run(
            [sys.executable, "-c", MAIN, "generate", bundle, *arguments],
            input=typed,
            env=environment,
            capture_output=True,
            check=True,
        )
        assert done.stdout.decode() == CAPITAL[1] + "\n"


@pytest.mark.parametrize("prompt", ["-5+3等于几？", "-，", "-1"])
def test_a_prompt_may_begin_with_a_dash(prompt: str, bundle: Path, command: Command) -> None:
    expected = command("generate", bundle, "-n", "2", "--json", "--", prompt)
    outcome = command("generate", bundle, prompt, "-n", "2", "--json")
    assert outcome.code in (0, None)
    assert json.loads(outcome.out)["token_ids"] == json.loads(expected.out)["token_ids"]
    options = ("--presence-penalty", "-1", "--json")
    penalised = command("generate", bundle, CAPITAL[0], *options)
    assert json.loads(penalised.out)["text"] == CAPITAL[1]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "give one prompt; got none"),
        (("hello", "--file", "x.txt"), "give one prompt; got a prompt and --file"),
        ((" ",), "a user message is blank"),
        (("hello", "--temperature", "-1"), "temperature: "),
    ],
)
def test_what_is_wrong_with_a_question_is_refused_before_the_bundle_is_looked_at(
    arguments: tuple[str, ...], says: str, command: Command
) -> None:
    outcome = command("generate", "no-such-bundle", *arguments)
    check_refusal(outcome, says)


def test_settings_that_cannot_act_are_told_once(bundle: Path, command: Command) -> None:
    asked = ("generate", bundle, CAPITAL[0], "--top-p", "0.9", "--seed", "1")
    said = "without effect at temperature 0, which takes the likeliest token: --top-p, --seed"
    assert command(*asked, "--temp", "0").err.splitlines()[0] == said
    assert "without effect" not in command(*asked, "--temp", "1").err
    assert "without effect" not in command("generate", bundle, CAPITAL[0]).err
