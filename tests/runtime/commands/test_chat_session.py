"""Claims about a chat and its conversation: what is kept, what is dropped, what Ctrl-C leaves."""

import io
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.bundle.reader import load_bundle
from runtime.commands.chat_loop import converse
from runtime.commands.chat_session import Chat
from runtime.commands.model import open_model
from runtime.commands.typed_lines import PipedLines
from runtime.errors import PromptError, SessionError
from runtime.sampling.defaults import default_params
from runtime.sessions import SessionOptions
from runtime.text.conversation import Conversation, Turn
from tests.dialogues import AGAIN, AGAIN_ALONE, CAPITAL, STEPS

CONTEXT_LEN = 384
STEPS_TURN = Turn(*STEPS)


@pytest.fixture(scope="module")
def opened(bundles: Path) -> Iterator[Chat]:
    bundle = load_bundle(bundles / "talk-int4")
    with open_model(bundle, {}, SessionOptions()) as (scheduler, tokenizer, _):
        yield Chat(
            scheduler=scheduler,
            tokenizer=tokenizer,
            defaults=default_params(bundle, tokenizer.eos_token_id),
            settings={},
            stops=[],
            conversation=Conversation(),
        )


@pytest.fixture
def chat(opened: Chat) -> Chat:
    return Chat(
        scheduler=opened.scheduler,
        tokenizer=opened.tokenizer,
        defaults=opened.defaults,
        settings={},
        stops=[],
        conversation=Conversation(),
    )


class Pressing(io.StringIO):
    """A terminal where Ctrl-C is pressed as soon as an answer has come so far."""

    def __init__(self, when: str, presses: int = 1) -> None:
        super().__init__()
        self._when, self._presses = when, presses

    def write(self, text: str) -> int:
        written = super().write(text)
        if self._presses and self._when in self.getvalue():
            presses, self._presses = self._presses, 0
            for _ in range(presses):
                signal.raise_signal(signal.SIGINT)
        return written


class PressingStops(tuple[str, ...]):
    """Texts to stop at, which press Ctrl-C when they are looked at: before the first token."""

    def __contains__(self, _: object) -> bool:
        signal.raise_signal(signal.SIGINT)
        return False


def long_chat(chat: Chat, num_turns: int = 7) -> Chat:
    """One that has said so many times what fills 44 rows of the cache."""
    chat.conversation = Conversation(turns=(STEPS_TURN,) * num_turns)
    return chat


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_stops_the_answer_and_what_is_there_stays(
    presses: int, chat: Chat, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Pressing("首都", presses)
    with monkeypatch.context() as patch:
        patch.setattr("sys.stdout", terminal)
        chat.ask(CAPITAL[0])
    [turn] = chat.conversation.turns
    assert turn == Turn(CAPITAL[0], turn.answer)
    assert CAPITAL[1].startswith(turn.answer)
    assert "首都" in turn.answer != CAPITAL[1]
    assert terminal.getvalue() == turn.answer + "\n"
    assert capsys.readouterr().err.startswith("[stopped: ")
    assert (chat.totals.stopped, chat.totals.finished) == (1, 0)
    chat.ask(AGAIN[0])  # and no slot of the cache is lost
    assert chat.conversation.turns[0] == turn
    assert chat.totals.finished == 1


def test_before_the_first_token_ctrl_c_forgets_the_question(
    chat: Chat, capsys: pytest.CaptureFixture[str]
) -> None:
    chat.conversation = before = Conversation(turns=(STEPS_TURN,))
    chat.stops = PressingStops()
    chat.ask(AGAIN[0])
    assert chat.conversation is before
    assert capsys.readouterr() == ("", "\nstopped; the question is forgotten\n")
    chat.stops = []
    chat.ask(AGAIN[0])
    assert chat.conversation.turns[1:] == (Turn(*AGAIN),)


def test_an_answer_that_was_cut_stays(chat: Chat) -> None:
    chat.settings = {"max_tokens": 3}
    chat.ask(CAPITAL[0])
    [turn] = chat.conversation.turns
    assert turn.answer
    assert CAPITAL[1].startswith(turn.answer) != (turn.answer == CAPITAL[1])


def test_a_conversation_longer_than_the_cache_loses_its_oldest_turns(
    chat: Chat, capsys: pytest.CaptureFixture[str]
) -> None:
    chat.conversation = Conversation(system="", turns=(Turn(*CAPITAL), *(STEPS_TURN,) * 6))
    chat.ask(AGAIN[0])
    err = capsys.readouterr().err
    dropped = 8 - len(chat.conversation.turns)
    said = f"the conversation is longer than the cache: its oldest {dropped} turns are forgotten"
    assert err.splitlines()[0] == said
    *older, last = chat.conversation.turns
    assert older == [STEPS_TURN] * len(older) != []
    assert last.question == AGAIN[0]
    assert chat.conversation.system == ""


@pytest.mark.parametrize("more", [0, 1])
def test_a_prompt_that_leaves_less_than_a_quarter_of_the_cache_loses_turns(
    more: int, chat: Chat
) -> None:
    conversation = long_chat(chat, 5).conversation
    questions = ("龘" * number for number in range(1, CONTEXT_LEN))  # each one more token or more
    most = CONTEXT_LEN * 3 // 4
    fitting = [each for each in questions if chat.count(conversation.asking(each)) <= most]
    chat.ask(fitting[-1] + "龘" * more)
    assert (len(chat.conversation.turns) == 6) == (more == 0)


def test_turns_are_dropped_until_the_prompt_fills_half_of_the_cache(chat: Chat) -> None:
    long_chat(chat).ask("?")
    *kept, _ = chat.conversation.turns
    prompt = Conversation(turns=tuple(kept))
    assert chat.count(prompt.asking("?")) <= CONTEXT_LEN // 2
    one_more = Conversation(turns=(STEPS_TURN, *kept))
    assert chat.count(one_more.asking("?")) > CONTEXT_LEN // 2


def test_a_short_answer_needs_less_room(chat: Chat) -> None:
    chat.settings = {"max_tokens": 1}
    before = long_chat(chat).conversation.turns
    chat.ask("?")
    assert chat.conversation.turns[:-1] == before


def test_turns_are_dropped_for_max_length_too(chat: Chat) -> None:
    chat.defaults = chat.defaults.model_copy(update={"max_length": 100})
    long_chat(chat, 3).ask(AGAIN_ALONE[0])
    assert chat.conversation.turns == (Turn(*AGAIN_ALONE),)
    chat.settings = {"max_tokens": 40}  # which goes before max_length
    long_chat(chat, 3).ask(AGAIN[0])
    assert len(chat.conversation.turns) == 4


@pytest.mark.parametrize("question", ["盒子" * 300, "x" * 5_000_000])
def test_a_question_that_no_cache_holds_changes_nothing(
    question: str, chat: Chat, capsys: pytest.CaptureFixture[str]
) -> None:
    before = long_chat(chat).conversation
    with pytest.raises(PromptError, match="the prompt is longer than the cache"):
        chat.ask(question)
    assert chat.conversation is before
    assert capsys.readouterr() == ("", "")


def test_what_the_conversation_holds_is_counted_and_reused(chat: Chat) -> None:
    assert chat.held_tokens > 0  # the system prompt
    chat.conversation = Conversation(system="")
    assert chat.held_tokens == 0
    chat.conversation = Conversation()
    chat.ask(STEPS[0])
    first = chat.held_tokens
    hits = chat.scheduler.engine.prefix_hits
    chat.ask(AGAIN[0])
    # The last token of an answer ends it, and has no row when the next question comes.
    assert chat.scheduler.engine.prefix_hits - hits == first - 1
    assert chat.held_tokens > first
    assert 0 < chat.reused_fraction < 1


class Failing(PipedLines):
    """Lines whose first reading ends otherwise."""

    def __init__(self, error: BaseException, goes_on: bool = False) -> None:
        super().__init__(io.StringIO("/stats").readline)
        self._errors = [error]
        self._goes_on = goes_on

    def read(self, prompt: str) -> str:
        if self._errors:
            raise self._errors.pop()
        return super().read(prompt)

    def interrupted(self) -> bool:
        return self._goes_on


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SessionError("the device is lost")])
def test_ctrl_c_and_a_backend_that_fails_end_a_chat_over_a_pipe(
    error: BaseException, chat: Chat, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(type(error)):
        converse(chat, Failing(error))
    assert "context" not in capsys.readouterr().err


@pytest.mark.parametrize("error", [KeyboardInterrupt(), PromptError("that is no text")])
def test_ctrl_c_on_a_terminal_and_a_mistake_do_not_end_it(
    error: BaseException, chat: Chat, capsys: pytest.CaptureFixture[str]
) -> None:
    converse(chat, Failing(error, goes_on=True))
    assert "context" in capsys.readouterr().err
