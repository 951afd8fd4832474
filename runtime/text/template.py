"""The seam of prompt templates: a conversation to the token ids that a model was trained on.

Must not know the model, how the answer is made, or HTTP.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from runtime.errors import PromptError
from runtime.record import Record

__all__ = [
    "Encoder",
    "Message",
    "Template",
    "check_order",
    "encode_chat",
    "opening",
    "question",
]

ORDER = "an optional system message, then user and assistant in turn, user first and last"


class Message(Record):
    """One message of a conversation, in the words of the OpenAI API."""

    role: Literal["system", "user", "assistant"]
    content: str


class Encoder(Protocol):
    """What a template needs of a tokenizer."""

    @property
    def template(self) -> "Template":
        """How conversations become prompts of its model."""

    @property
    def bos_token_id(self) -> int | None:
        """The token before a text; None where the model has none."""

    @property
    def eos_token_id(self) -> int:
        """The token that ends an answer."""

    @property
    def control_tokens(self) -> Mapping[str, int]:
        """Ids of the invisible tokens by their names; never made from what a user types."""

    def name(self, token_id: int) -> str:
        """How the vocabulary writes a token, control tokens too."""

    def encode(self, text: str, *, add_bos: bool = False) -> list[int]:
        """Token ids of a text; the names of control tokens in it are plain text."""

    def encode_parts(self, parts: Sequence[str | int]) -> list[int]:
        """Token ids of one text that has control tokens, by their ids, among its parts."""


class Template(Protocol):
    """How conversations become prompts; the prompt ends where the answer begins."""

    @property
    def default_system_prompt(self) -> str | None:
        """What counts as the system message where none is given; None: the template says it."""

    def text(self, tokenizer: Encoder, messages: Sequence[Message]) -> str:
        """The prompt for people to read.

        Raises:
            PromptError: the template does not take these messages.
        """

    def encode(self, tokenizer: Encoder, messages: Sequence[Message]) -> list[int]:
        """Prompt ids.

        Raises:
            PromptError: the template does not take these messages, or one is not valid Unicode.
        """


def encode_chat(tokenizer: Encoder, messages: Sequence[Message]) -> list[int]:
    """Prompt ids of a conversation, by the tokenizer's own template.

    Raises:
        PromptError: as Template.encode.
    """
    return tokenizer.template.encode(tokenizer, messages)


def opening(system: str | None) -> list[Message]:
    """How a conversation begins; None leaves the system prompt to the template."""
    return [] if system is None else [Message(role="system", content=system)]


def question(system: str | None, text: str) -> list[Message]:
    """A conversation of one question; see `opening`.

    Raises:
        PromptError: the question is blank.
    """
    messages = [*opening(system), Message(role="user", content=text)]
    check_order(messages)
    return messages


def check_order(messages: Sequence[Message]) -> None:
    """Refuses what is not one question after the other.

    Raises:
        PromptError: the order of roles is wrong or a user message is blank.
    """
    starts_with_system = bool(messages) and messages[0].role == "system"
    dialogue = messages[int(starts_with_system) :]
    for index, message in enumerate(dialogue):
        expected = "user" if index % 2 == 0 else "assistant"
        if message.role != expected:
            raise _wrong_order(f"{message.role} where {expected} belongs")
        if message.role == "user" and not message.content.strip():
            raise PromptError(
                "a user message is blank",
                got=repr(message.content[:20]),
                allowed="any other text",
                next_step="write what the assistant should do",
                param="messages",
            )
    if len(dialogue) % 2 == 0:
        raise _wrong_order("no user message" if not dialogue else "assistant last")


def _wrong_order(got: str) -> PromptError:
    return PromptError(
        "the messages are not in order",
        got=got,
        allowed=ORDER,
        next_step="put them in that order",
        param="messages",
    )
