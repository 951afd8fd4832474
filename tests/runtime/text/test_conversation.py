"""Claims about conversations: they change by copies, and lose whole turns, the oldest first."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import PromptError
from runtime.text.alpaca2 import render
from runtime.text.conversation import Conversation, Turn, from_messages, with_room
from runtime.text.template import Message

QUESTIONS = st.text("ab你", min_size=1, max_size=30)
CONVERSATIONS = st.builds(
    Conversation,
    system=st.none() | st.text("xy"),
    turns=st.lists(st.builds(Turn, QUESTIONS, st.text("c"))).map(tuple),
)


def count(messages: Sequence[Message]) -> int:
    """As good as tokens: the characters of the prompt."""
    return sum(map(len, render(messages)))


def dialogue(num_turns: int, system: str | None = None) -> Conversation:
    turns = tuple(Turn(f"question {i}", f"answer {i}") for i in range(num_turns))
    return Conversation(system=system, turns=turns)


def test_a_conversation_is_asked_with_everything_before_the_question() -> None:
    conversation = Conversation(system="Be brief.").answered("a", "b")
    roles = [(message.role, message.content) for message in conversation.asking("c")]
    said = [("user", "a"), ("assistant", "b"), ("user", "c")]
    assert roles == [("system", "Be brief."), *said]
    assert conversation.turns == (Turn("a", "b"),)


@given(CONVERSATIONS)
def test_messages_become_the_same_conversation_again(conversation: Conversation) -> None:
    assert from_messages(conversation.messages) == conversation


@pytest.mark.parametrize(
    "roles",
    ["user", "assistant", "user user", "user assistant system", "system system", "system user"],
)
def test_messages_that_are_no_conversation_are_refused(roles: str) -> None:
    messages = [Message.model_validate({"role": role, "content": "x"}) for role in roles.split()]
    with pytest.raises(PromptError, match="the messages are not in order"):
        from_messages(messages)


def test_a_blank_question_is_refused() -> None:
    with pytest.raises(PromptError, match="a user message is blank"):
        from_messages(Conversation().answered(" ", "b").messages)


def test_what_fits_is_left_as_it_is() -> None:
    conversation = dialogue(5)
    size = count(conversation.asking("and?"))
    assert with_room(conversation, "and?", count, most=size, goal=10) is conversation


def test_the_oldest_turns_go_and_the_system_prompt_stays() -> None:
    conversation = dialogue(5, system="Be brief.")
    most = count(conversation.asking("and?")) - 1
    goal = count(conversation.newest(2).asking("and?"))
    kept = with_room(conversation, "and?", count, most=most, goal=goal)
    assert (kept.system, kept.turns) == ("Be brief.", conversation.turns[3:])


def test_a_question_that_is_too_long_by_itself_loses_every_turn() -> None:
    kept = with_room(dialogue(3, system=""), "long " * 100, count, most=200, goal=100)
    assert kept == Conversation(system="")


@given(CONVERSATIONS, QUESTIONS, st.integers(100, 600), st.integers(0, 100))
def test_what_stays_is_the_most_that_reaches_the_goal(
    conversation: Conversation, question: str, most: int, less: int
) -> None:
    goal = most - less
    kept = with_room(conversation, question, count, most=most, goal=goal)
    num_turns = len(kept.turns)
    assert kept == conversation.newest(num_turns)
    if kept is conversation:
        assert count(kept.asking(question)) <= most or not conversation.turns
        return
    assert count(conversation.asking(question)) > most
    assert num_turns == 0 or count(kept.asking(question)) <= goal
    one_more = conversation.newest(num_turns + 1)
    assert count(one_more.asking(question)) > goal or one_more == conversation
