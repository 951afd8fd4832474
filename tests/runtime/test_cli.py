"""Claims about the runtime command: the result on stdout, one line for an error, exit 0, 1 or 2.

Most run in this process; what depends on a fresh interpreter or on bytes is run in a new one.
"""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from runtime.cli import main
from tests.dialogues import AGAIN, AGAIN_ALONE, CAPITAL, LLAMA, RAW, STEPS

MAIN = "from runtime.cli import main; main()"
OUT_OF_RANGE = [("temperature", "-1"), ("temperature", "nan"), ("top_k", "-1"), ("top_p", "1.1")]
OUT_OF_RANGE += [("min_p", "-0.1"), ("repetition_penalty", "0"), ("presence_penalty", "3")]
OUT_OF_RANGE += [("frequency_penalty", "inf"), ("max_tokens", "0"), ("seed", str(2**63))]
# Runs the command, then tells what was imported on the way.
TELL_MODULES = """
import sys
from runtime.cli import main
try:
    main()
finally:
    sys.stdout = open({!r}, "w")
    print(*(name for name in sys.modules))
"""


class Outcome(NamedTuple):
    code: object
    out: str
    err: str


Command = Callable[..., Outcome]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    def run(*arguments: str | Path, typed: str = "") -> Outcome:
        monkeypatch.setattr(sys, "argv", ["runtime", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        with pytest.raises(SystemExit) as ending:
            main()
        return Outcome(ending.value.code or 0, *capsys.readouterr())

    return run


def fresh(
    *arguments: str | bytes | Path, script: str = MAIN, typed: bytes = b"", stdout: int = -1
) -> Outcome:
    """Runs in a new interpreter, whose streams are strict UTF-8 as on a common desktop."""
    ended = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        input=typed,
        stdout=stdout,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
        check=False,
    )
    return Outcome(ended.returncode, (ended.stdout or b"").decode(), ended.stderr.decode())


def check_refusal(outcome: Outcome, start: str) -> None:
    assert outcome.code == 1
    assert outcome.out == ""
    assert outcome.err.startswith(f"error: {start}")
    assert outcome.err.count("\n") == 1


@pytest.fixture
def bundle(bundles: Path) -> Path:
    return bundles / "talk-int4"


@pytest.mark.parametrize(("question", "answer"), [CAPITAL, LLAMA, STEPS])
def test_the_answer_and_a_line_break_go_to_stdout_and_a_summary_to_stderr(
    question: str, answer: str, bundle: Path, command: Command
) -> None:
    outcome = command("generate", bundle, question)
    assert (outcome.code, outcome.out) == (0, answer + "\n")
    assert " new tokens, finish stop, first token " in outcome.err
    assert outcome.err.count("\n") == 1


def test_a_new_interpreter_writes_the_same_bytes_in_utf_8(bundle: Path) -> None:
    outcome = fresh("generate", bundle, LLAMA[0])
    assert (outcome.code, outcome.out) == (0, LLAMA[1] + "\n")


def test_the_options_reach_the_completion(bundle: Path, command: Command) -> None:
    def document(*options: str) -> dict[str, Any]:
        return dict(json.loads(command("generate", bundle, CAPITAL[0], "--json", *options).out))

    plain, bare, loud = document(), document("--system", ""), document("--system", "box" * 50)
    assert bare["prompt_tokens"] < plain["prompt_tokens"] < loud["prompt_tokens"]
    cut = document("--max-tokens", "3")
    assert (cut["completion_tokens"], cut["finish_reason"]) == (3, "length")
    assert document("--stop", "never", "--stop", "首都")["text"] == "北京是中国的"
    warm = [document("--temperature", "3", "--seed", seed)["token_ids"] for seed in "112"]
    assert warm[0] == warm[1] != warm[2]
    coldest = document("--temperature", "3", "--top-k", "1")
    assert coldest["text"] == document("--temperature", "3", "--top-p", "1e-9")["text"]
    assert coldest["text"] == document("--temperature", "3", "--min-p", "1")["text"] == CAPITAL[1]


def test_tokens_to_stop_at_add_up_and_all_can_be_ignored(bundle: Path, command: Command) -> None:
    def document(*options: str) -> dict[str, Any]:
        return dict(json.loads(command("generate", bundle, CAPITAL[0], "--json", *options).out))

    whole = document()["token_ids"]
    cut = document("--stop-token-id", str(whole[3]), "--stop-token-id", str(whole[2]))
    assert (cut["token_ids"], cut["finish_reason"]) == (whole[:3], "stop")
    unused = next(i for i in range(640) if i not in whole)
    assert document("--stop-token-id", str(unused))["token_ids"] == whole
    longer = document("--ignore-eos", "--max-tokens", str(len(whole) + 3))
    assert longer["token_ids"][: len(whole)] == whole
    assert (longer["completion_tokens"], longer["finish_reason"]) == (len(whole) + 3, "length")


def test_a_bias_moves_the_choice_to_the_next_likeliest(bundle: Path, command: Command) -> None:
    options = ("--json", "--max-tokens", "2", "--logprobs", "3")
    plain = json.loads(command("generate", bundle, CAPITAL[0], *options).out)
    assert [each["token_id"] for each in plain["logprobs"]] == plain["token_ids"]
    first, second, third = plain["logprobs"][0]["top_logprobs"]
    assert (first["token_id"], first["logprob"]) == (
        plain["token_ids"][0],
        plain["logprobs"][0]["logprob"],
    )
    assert 0 > first["logprob"] > second["logprob"] > third["logprob"]
    banned = [f"--logit-bias={each['token_id']}=-100" for each in (first, second)]
    moved = json.loads(command("generate", bundle, CAPITAL[0], *options, *banned).out)
    assert moved["token_ids"][0] == third["token_id"]


def test_raw_continues_the_text_as_it_is(bundle: Path, command: Command) -> None:
    outcome = command("generate", bundle, RAW.format(CAPITAL[0]), "--raw")
    assert (outcome.code, outcome.out) == (0, f" {CAPITAL[1]}\n")  # with the space it goes on with


def test_a_dash_reads_the_question_from_stdin(bundle: Path, command: Command) -> None:
    assert command("generate", bundle, "-", typed=CAPITAL[0]).out == CAPITAL[1] + "\n"
    assert fresh("generate", bundle, "-", typed=CAPITAL[0].encode()).out == CAPITAL[1] + "\n"


@pytest.mark.parametrize(("field", "value"), OUT_OF_RANGE)
def test_a_setting_out_of_its_range_is_refused_by_name(
    field: str, value: str, bundle: Path, command: Command
) -> None:
    option = "--" + field.replace("_", "-")
    check_refusal(command("generate", bundle, "text", option, value), f"{field}: ")
    check_refusal(command("chat", bundle, option, value), f"{field}: ")


@pytest.mark.parametrize(
    "arguments",
    [
        *[["--colour", "red"], ["--temperature", "warm"], ["more"], ["--logprobs", "1"]],
        *[["--threads", number] for number in ("0", "1025", "9" * 30)],
        *[["--logit-bias", bias] for bias in ("5", "5=", "=1", "a=1", "5=1=1")],
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str], bundle: Path, command: Command) -> None:
    outcome = command("generate", bundle, "text", *arguments)
    assert (outcome.code, outcome.out) == (2, "")
    assert "Usage:" in outcome.err


def test_no_such_bundle_and_no_question_are_refused_in_one_line(
    bundle: Path, command: Command
) -> None:
    check_refusal(command("generate", "/absent", "text"), "no bundle at /absent")
    check_refusal(command("chat", "/absent"), "no bundle at /absent")
    check_refusal(command("generate", bundle, ""), "a user message is blank")
    check_refusal(command("generate", bundle, "-"), "a user message is blank")
    check_refusal(command("generate", bundle, "", "--raw"), "the prompt has no tokens")
    check_refusal(command("generate", bundle, "盒子" * 300), "the prompt is longer than the cache")


def test_bytes_that_are_no_text_are_refused_in_one_line(bundle: Path) -> None:
    """From stdin with a UTF-8 locale they ended in a UnicodeDecodeError."""
    refusal = "{} is not UTF-8; got byte 0xff at character 1;"
    check_refusal(fresh("generate", bundle, b"a\xff"), refusal.format("the prompt"))
    check_refusal(fresh("generate", bundle, b"a\xff", "--raw"), refusal.format("the prompt"))
    check_refusal(fresh("generate", bundle, "-", typed=b"a\xff"), refusal.format("standard input"))
    outcome = fresh("chat", bundle, typed=b"a\xff\n" + CAPITAL[0].encode())
    assert (outcome.code, outcome.out) == (0, CAPITAL[1] + "\n")
    assert refusal.format("the line") in outcome.err


def test_a_reader_that_left_is_no_crash(bundle: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    outcome = fresh("generate", bundle, CAPITAL[0], stdout=writer)
    os.close(writer)
    assert (outcome.code, outcome.err) == (1, "")


def test_interrupting_a_chat_exits_with_130_and_no_traceback(bundle: Path) -> None:
    arguments = [sys.executable, "-c", MAIN, "chat", str(bundle)]
    with subprocess.Popen(
        arguments,
        stdin=-1,
        stdout=-1,
        stderr=-1,
        # A shell starts what runs in the background with the signal ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as chat:
        assert chat.stderr is not None
        assert chat.stderr.readline().startswith(b"/help")  # now it waits for a question
        chat.send_signal(signal.SIGINT)
        _, err = chat.communicate(timeout=60)
    assert chat.returncode == 130
    assert b"Traceback" not in err


def test_a_chat_remembers_until_reset_and_ends_at_exit(bundle: Path, command: Command) -> None:
    typed = [STEPS[0], "", AGAIN[0], "/reset", f"  {AGAIN[0]}  ", "盒子" * 300, "/exit", STEPS[0]]
    outcome = command("chat", bundle, typed="\n".join(typed))
    assert outcome.code == 0
    assert outcome.out == f"{STEPS[1]}\n{AGAIN[1]}\n{AGAIN_ALONE[1]}\n"
    assert outcome.err.count(" new tokens, ") == 3
    assert "\nforgotten\n" in outcome.err
    assert outcome.err.count("error: the prompt is longer than the cache") == 1
    assert "Traceback" not in outcome.err


def test_a_chat_over_a_pipe_ends_with_its_input(bundle: Path) -> None:
    outcome = fresh("chat", bundle, "--max-tokens", "64", typed=f"{STEPS[0]}\n{AGAIN[0]}".encode())
    assert (outcome.code, outcome.out) == (0, f"{STEPS[1]}\n{AGAIN[1]}\n")


def test_a_chat_takes_the_options_of_an_answer(bundle: Path, command: Command) -> None:
    stopped = command("chat", bundle, "--stop", "首都", typed=CAPITAL[0])
    assert stopped.out == "北京是中国的\n"
    coldest = command("chat", bundle, "--temperature", "3", "--min-p", "1", typed=CAPITAL[0])
    assert coldest.out == CAPITAL[1] + "\n"


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    script = TELL_MODULES.format(str(tmp_path / "modules"))
    heavy = {"numpy", "onnxruntime", "sentencepiece"}
    # Of a command, typer itself imports pydantic to read the options.
    for arguments, unwanted in ([], {*heavy, "pydantic"}), (["generate"], heavy), (["chat"], heavy):
        outcome = fresh(*arguments, "--help", script=script)
        assert (outcome.code, outcome.err) == (0, "")
        assert "Usage:" in outcome.out
        modules = set((tmp_path / "modules").read_text().split())
        assert "runtime.cli" in modules
        assert not modules & unwanted


def test_an_answer_needs_nothing_of_what_made_the_bundle(bundle: Path, tmp_path: Path) -> None:
    script = TELL_MODULES.format(str(tmp_path / "modules"))
    assert fresh("generate", bundle, CAPITAL[0], script=script).out == CAPITAL[1] + "\n"
    modules = set((tmp_path / "modules").read_text().split())
    assert "onnxruntime" in modules
    makers = {"torch", "transformers", "onnx", "onnx_ir", "onnxscript", "safetensors"}
    assert not modules & {*makers, "export", "toolchain", "profiles"}
