"""Claims about what can be said to `runtime chat` over a pipe."""

import json
import os
import re
from pathlib import Path

import pytest

from runtime.commands.chat_commands import COMMANDS
from runtime.commands.options import SAMPLING_OPTIONS
from tests.dialogues import AGAIN, AGAIN_ALONE, BOX, CAPITAL, STEPS
from tests.runtime import test_cli as command_line
from tests.runtime.test_cli import MAIN, Command, fresh

bundle, command = command_line.bundle, command_line.command  # fixtures


def lines(*typed: str | Path) -> str:
    return "".join(f"{line}\n" for line in typed)


def test_a_slash_word_that_is_no_command_is_told(bundle: Path, command: Command) -> None:
    typed = lines("/rest", "/rest now", "/", "/?", CAPITAL[0])
    outcome = command("chat", bundle, typed=typed)
    told = re.findall(r"no such command: (\S+); /help lists them", outcome.err)
    assert told == ["/rest", "/rest", "/", "/?"]
    assert outcome.out == CAPITAL[1] + "\n"


@pytest.mark.parametrize(
    "typed", ['"""/reset"""', "/usr/bin 是什么？", "/unknown\\\nword", "/reset\\\nword", "1/2"]
)
def test_what_only_looks_like_a_command_is_asked(
    typed: str, bundle: Path, command: Command
) -> None:
    outcome = command("chat", bundle, "-n", "1", typed=lines(typed))
    assert outcome.err.count(" new tokens, ") == 1
    assert "no such command" not in outcome.err


def test_help_lists_every_command_and_the_keys(
    bundle: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for columns in (40, 80, 120):
        monkeypatch.setenv("COLUMNS", str(columns))
        told = command("chat", bundle, typed="/help\n").err
        for name, each in COMMANDS.items():
            assert re.search(rf"^  {re.escape(f'{name} {each.usage}'.strip())}  ", told, re.M)
        assert {"Ctrl-C", "Ctrl-D", '"""'} <= set(told.split())
        assert max(map(len, told.splitlines())) < columns


@pytest.mark.parametrize("leaves", ["/exit", "/bye"])
def test_exit_and_bye_leave(leaves: str, bundle: Path, command: Command) -> None:
    outcome = command("chat", bundle, typed=lines(leaves, CAPITAL[0]))
    assert (outcome.code, outcome.out) == (0, "")


def test_the_system_prompt_is_shown_and_changed_for_the_whole_conversation(
    bundle: Path, command: Command
) -> None:
    typed = lines("/system", STEPS[0], "/system none", "/system Be", "/system default", AGAIN[0])
    outcome = command("chat", bundle, typed=typed)
    shown = re.findall("^system prompt: (.*)$", outcome.err, re.M)
    default = "You are a helpful assistant. 你是一个乐于助人的助手。"
    assert shown == [default, "none", "Be", default]
    assert outcome.out == f"{STEPS[1]}\n{AGAIN[1]}\n"
    prompts = []
    for system in ("/system none", '/system """You are\nbrief."""'):
        told = command("chat", bundle, "-n", "1", typed=lines(system, "?")).err
        prompts += re.findall(r"^\[(\d+) prompt", told, re.M)
    assert int(prompts[0]) < int(prompts[1])


def test_reset_forgets_the_turns_and_not_the_rest(bundle: Path, command: Command) -> None:
    typed = lines("/set seed 1", "/system Be", STEPS[0], "/reset", "/system", "/set seed", "/stats")
    told = command("chat", bundle, typed=typed).err
    assert told.splitlines().count("system prompt: Be") == 2
    assert told.count("  seed  1 *  ") == 2
    assert "0 turns" in told


def test_set_changes_the_next_answer_and_default_takes_it_back(
    bundle: Path, command: Command
) -> None:
    typed = lines("/set max_tokens 3", CAPITAL[0], "/reset", "/set max_tokens default", CAPITAL[0])
    outcome = command("chat", bundle, "-n", "2", typed=typed)
    cut, whole = outcome.out.splitlines()
    assert CAPITAL[1].startswith(cut)
    assert whole == CAPITAL[1]  # the model's own, not the command line's
    assert "3 new tokens, finish length" in outcome.err


def test_set_alone_shows_every_setting_and_which_were_chosen(
    bundle: Path, command: Command
) -> None:
    told = command("chat", bundle, "--temp", "0.5", typed=lines("/set seed 7", "/set")).err
    rows = dict(re.findall(r"^  (\w+) +(\S+(?: \*)?)  ", told, re.M))
    assert set(rows) == set(SAMPLING_OPTIONS)
    chosen = {name for name, value in rows.items() if value.endswith("*")}
    assert chosen == {"temperature", "seed"}
    assert (rows["temperature"], rows["seed"]) == ("0.5 *", "7 *")


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("/set temperature 200", "error: temperature: Input should be less than or equal to 100;"),
        ("/set temperature warm", "error: temperature cannot be read; got 'warm'; allowed: a num"),
        ("/set colour red", "error: no setting colour; allowed: max_tokens, temperature, top_k"),
        ("/set top-p 0.5", "without effect at temperature 0, which takes the likeliest token"),
        ("/save", "error: no file is named; allowed: /save FILE or /load FILE"),
        ("/load", "error: no file is named; allowed: /save FILE or /load FILE"),
        ("/load /absent", "error: /absent is missing or no regular file"),
        ("/save /absent/x", "error: cannot write /absent/x; got no such file or directory"),
    ],
)
def test_a_mistake_is_told_in_a_line_and_the_chat_goes_on(
    typed: str, says: str, bundle: Path, command: Command
) -> None:
    outcome = command("chat", bundle, typed=lines(typed, CAPITAL[0]))
    assert (outcome.code, outcome.out) == (0, CAPITAL[1] + "\n")
    assert [line for line in outcome.err.splitlines() if line.startswith(says)]


def test_a_setting_that_the_model_cannot_take_is_told_when_it_is_asked(
    bundle: Path, command: Command
) -> None:
    typed = lines("/set logit_bias 99999=1", "lost", "/set logit_bias default", CAPITAL[0])
    outcome = command("chat", bundle, typed=typed)
    assert outcome.out == CAPITAL[1] + "\n"
    assert "error: logit_bias names a token that the model does not have" in outcome.err


def test_a_saved_chat_goes_on_in_another(bundle: Path, command: Command, tmp_path: Path) -> None:
    file = tmp_path / "my chat.json"
    saving = lines(STEPS[0], "/set temperature 0.0", f"/save {file}")
    assert f"saved 1 turn and 1 setting to {file}" in command("chat", bundle, typed=saving).err
    assert json.loads(file.read_bytes())["settings"] == {"temperature": 0.0}
    loading = lines(AGAIN[0], f"/load {file}", AGAIN[0], "/set temperature")
    outcome = command("chat", bundle, "--seed", "3", typed=loading)
    assert outcome.out == f"{AGAIN_ALONE[1]}\n{AGAIN[1]}\n"
    assert f"loaded 1 turn and 1 setting from {file}" in outcome.err
    assert "  temperature  0.0 *  " in outcome.err


def test_a_tilde_is_the_home_directory(
    bundle: Path, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    command("chat", bundle, typed=lines("/save ~/chat.json"))
    assert [file.name for file in tmp_path.iterdir()] == ["chat.json"]


def test_stats_tell_tokens_rates_and_what_the_cache_holds(bundle: Path, command: Command) -> None:
    told = command("chat", bundle, typed=lines("/stats", STEPS[0], AGAIN[0], "/stats")).err
    before, after = told.split("[", 1)[0], told.rsplit("]", 1)[1]
    assert "answers     0 finished, 0 stopped" in before
    assert "tokens/s" not in before
    held = re.search(r"context +(\d+) of 384 tokens \((\d+)%\), 2 turns", after)
    assert held is not None
    assert abs(int(held[1]) / 384 - int(held[2]) / 100) <= 0.005
    assert "answers     2 finished, 0 stopped" in after
    new = sum(map(int, re.findall(r"(\d+) new tokens, ", told)))
    assert f"new tokens  {new}\n" in after
    assert re.search(r"reused +[1-9]\d*% of all prompt tokens", after)
    assert len(re.findall(r" [\d.]+ tokens/s", after)) == 2


def test_a_question_may_take_several_lines(bundle: Path, command: Command) -> None:
    for typed in ("What is\\\nan edge box?", '"""\nWhat is\nan edge box?\n"""'):
        outcome = command("chat", bundle, "-n", "2", typed=lines(typed))
        assert outcome.err.count(" new tokens, ") == 1
    joined = command("chat", bundle, typed=lines('"""What is an edge box?"""'))
    assert joined.out == BOX[1] + "\n"


def test_a_chat_over_a_pipe_writes_no_history(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, scratch = tmp_path / "home", tmp_path / "tmp"
    for folder, variable in (home, "HOME"), (scratch, "TMPDIR"):
        folder.mkdir()
        monkeypatch.setenv(variable, str(folder))
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    outcome = fresh("chat", bundle, script=MAIN, typed=f"{CAPITAL[0]}\n/stats\n".encode())
    assert (outcome.code, outcome.out) == (0, CAPITAL[1] + "\n")
    assert [file for folder in (home, scratch) for _, _, file in os.walk(folder) if file] == []
