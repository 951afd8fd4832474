"""A conversation: a system prompt, and turns of a question and its answer.

Takes texts and a way to count tokens; knows no terminal, no file and no model.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from runtime.text.template import Message, check_order, opening

__all__ = ["Conversation", "Count", "Turn", "from_messages", "with_room"]

# How many tokens messages are that end with a question.
Count = Callable[[Sequence[Message]], int]


class Turn(NamedTuple):
    """A question and its answer."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """What was said so far. Every change gives a new one.

    system: None leaves it to the template, empty is none; see template.opening.
    """

    system: str | None = None
    turns: tuple[Turn, ...] = ()

    @property
    def messages(self) -> list[Message]:
        """As the template takes them, with an answer last."""
        messages = opening(self.system)
        for turn in self.turns:
            messages.append(Message(role="user", content=turn.question))
            messages.append(Message(role="assistant", content=turn.answer))
        return messages

    def asking(self, question: str) -> list[Message]:
        """The messages with a question that waits for its answer."""
        return [*self.messages, Message(role="user", content=question)]

    def answered(self, question: str, answer: str) -> "Conversation":
        """With one more turn."""
        return replace(self, turns=(*self.turns, Turn(question, answer)))

    def newest(self, num_turns: int) -> "Conversation":
        """With its last turns alone."""
        return replace(self, turns=self.turns[len(self.turns) - num_turns :])


def from_messages(messages: Sequence[Message]) -> Conversation:
    """The conversation that has these messages.

    Raises:
        PromptError: they are out of order, a question is blank, or the last has no answer.
    """
    check_order([*messages, Message(role="user", content="?")])
    starts_with_system = bool(messages) and messages[0].role == "system"
    texts = [message.content for message in messages[int(starts_with_system) :]]
    return Conversation(
        system=messages[0].content if starts_with_system else None,
        turns=tuple(map(Turn, texts[0::2], texts[1::2])),
    )


def with_room(
    conversation: Conversation, question: str, count: Count, *, most: int, goal: int
) -> Conversation:
    """The conversation without as many of its oldest turns as leaves room for an answer.

    Args:
        conversation: what was said so far.
        question: what is asked next.
        count: counts tokens.
        most: tokens of a prompt beyond which turns are dropped.
        goal: tokens that are then not exceeded. The less it is than `most`, the more rarely a
            prompt gets another beginning, of which no row of the cache can be reused.

    Returns:
        The same where it fits; without any turn where even the last is too much.
    """
    if count(conversation.asking(question)) <= most:
        return conversation

    def tokens(num_turns: int) -> int:
        return count(conversation.newest(num_turns).asking(question))

    fitting = bisect_right(range(len(conversation.turns)), goal, key=tokens)
    return conversation.newest(max(0, fitting - 1))
