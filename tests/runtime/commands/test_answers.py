"""Answers of generate as JSON documents: on stdout, in a file, several in one."""

import json
from pathlib import Path

from tests.dialogues import LLAMA
from tests.runtime import test_cli as command_line
from tests.runtime.test_cli import Command, check_refusal

bundle, command = command_line.bundle, command_line.command  # fixtures


def test_json_is_one_document_with_the_documented_keys(bundle: Path, command: Command) -> None:
    outcome = command("generate", bundle, LLAMA[0], "--json")
    document = json.loads(outcome.out)
    keys = "format version text token_ids prompt_tokens completion_tokens"
    assert list(document) == [*keys.split(), "finish_reason", "stop_reason", "timings"]
    timings = "ttft_ms tpot_ms prefill_tokens_per_s decode_tokens_per_s"
    assert list(document["timings"]) == f"{timings} tokenize_ms sample_ms detokenize_ms".split()
    assert (outcome.code, outcome.err, document["text"]) == (0, "", LLAMA[1])
    assert document["completion_tokens"] == len(document["token_ids"])
    assert document["finish_reason"] == "stop"


def test_a_document_says_what_it_is_also_in_a_file(
    bundle: Path, tmp_path: Path, command: Command
) -> None:
    file = tmp_path / "answer.json"
    outcome = command("generate", bundle, LLAMA[0], "-o", file, "--logprobs", "0")
    assert (outcome.code, outcome.out, outcome.err) == (0, "", "")
    document = json.loads(file.read_bytes())
    assert (document["format"], document["version"]) == ("alpaca2-completion", 1)
    assert (document["text"], len(document["logprobs"])) == (LLAMA[1], len(document["token_ids"]))


def test_several_answers_are_one_document(bundle: Path, command: Command) -> None:
    outcome = command("generate", bundle, LLAMA[0], "--answers", "2", "--json")
    document = json.loads(outcome.out)
    assert (document["format"], document["version"]) == ("alpaca2-completions", 1)
    assert [each["text"] for each in document["completions"]] == [LLAMA[1]] * 2


def test_a_place_that_cannot_be_written_is_refused_before_the_bundle_is_read(
    tmp_path: Path, command: Command
) -> None:
    file = tmp_path / "none" / "answer.json"
    check_refusal(command("generate", "/absent", "text", "-o", file), f"cannot write {file}; ")
