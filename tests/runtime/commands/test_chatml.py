"""Claims about a model with a tokenizer.json and a template of its own, at the command line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.bundle.reader import load_bundle
from runtime.text.from_bundle import open_tokenizer
from tests.runtime import test_cli as command_line
from tests.runtime.test_cli import Command

command = command_line.command  # a fixture
pytest.importorskip("tokenizers", reason="the extra hf is not installed")
pytest.importorskip("jinja2", reason="the extra hf is not installed")

WITHOUT = "import sys; sys.modules['{}'] = None; from runtime.cli import main; main()"


@pytest.fixture
def chatml(bundles: Path) -> Path:
    return bundles / "chatml-fp32"


def document(command: Command, *arguments: str | Path) -> dict[str, object]:
    made = command("generate", *arguments, "--json")
    assert made.code == 0, made.err
    read: dict[str, object] = json.loads(made.out)
    return read


def test_the_manifest_says_which_tokenizer_and_template(chatml: Path) -> None:
    manifest = load_bundle(chatml).manifest
    assert (manifest.tokenizer, manifest.template) == ("tokenizers", "jinja")
    assert {"tokenizer.json", "chat_template.jinja", "added_tokens.json"} <= manifest.files.keys()


def test_an_answer_is_the_text_of_its_tokens(chatml: Path, command: Command) -> None:
    made = document(command, chatml, "你好🦙", "-n", "40", "--seed", "3", "--temperature", "1.5")
    token_ids = made["token_ids"]
    assert isinstance(token_ids, list)
    assert made["text"] == open_tokenizer(load_bundle(chatml)).decode(token_ids)


@pytest.mark.parametrize("end", ["<|im_end|>", "<|endoftext|>"])
def test_every_end_of_generation_config_ends_an_answer(
    chatml: Path, command: Command, end: str
) -> None:
    token_id = open_tokenizer(load_bundle(chatml)).control_tokens[end]
    made = document(command, chatml, "a", "-n", "9", "--logit-bias", f"{token_id}=100")
    assert (made["text"], made["stop_reason"], made["token_ids"]) == ("", token_id, [token_id])


def test_a_stop_string_ends_an_answer_before_it(chatml: Path, command: Command) -> None:
    whole = document(command, chatml, "Hello", "-n", "24")["text"]
    assert isinstance(whole, str)
    stop = whole[5:8]
    cut = document(command, chatml, "Hello", "-n", "24", "--stop", stop)
    assert (cut["text"], cut["stop_reason"]) == (whole[: whole.index(stop)], stop)


def test_a_chat_keeps_rows_drops_turns_and_has_no_system_prompt_of_ours(
    chatml: Path, command: Command
) -> None:
    turns = "".join(f"question {i} {'and more ' * 5}\n" for i in range(8))
    said = command("chat", chatml, "-n", "8", typed=f"/system\n{turns}/stats\n")
    assert said.code == 0
    assert "system prompt: the template's own" in said.err
    assert "turns are forgotten" in said.err or "turn is forgotten" in said.err
    reused = said.err.split("reused")[1].split("%")[0]
    assert int(reused) > 20


@pytest.mark.parametrize("package", ["tokenizers", "jinja2"])
def test_a_box_without_a_package_is_told_what_to_install(chatml: Path, package: str) -> None:
    refused = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(package), "generate", str(chatml), "a"],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert refused.returncode == 1
    assert f"needs the Python package {package}" in refused.stderr
    assert "pip install 'alpaca2-toolchain[hf]'" in refused.stderr
