"""The Alpaca-2 prompt template: a conversation to the token ids that the model was trained on.

Takes messages and a tokenizer; gives prompt ids that end where the answer begins.
Must not know the model, how the answer is made, or HTTP.
"""

from collections.abc import Sequence
from typing import Literal

from runtime.errors import PromptError
from runtime.record import Record
from runtime.text.tokenizer import Tokenizer

__all__ = ["DEFAULT_SYSTEM_PROMPT", "Message", "encode_chat", "opening", "question", "render"]

# ymcui/Chinese-LLaMA-Alpaca-2, prompts/alpaca-2.txt
DEFAULT_SYSTEM_PROMPT = "You are a helpful assistant. 你是一个乐于助人的助手。"
SYSTEM_BLOCK = "<<SYS>>\n{system}\n<</SYS>>\n\n"
TURN = "[INST] {instruction} [/INST]"
ANSWER = " {answer}"

ORDER = "an optional system message, then user and assistant in turn, user first and last"


class Message(Record):
    """One message of a conversation, in the words of the OpenAI API."""

    role: Literal["system", "user", "assistant"]
    content: str


def opening(system: str | None) -> list[Message]:
    """How a conversation begins; None leaves the default system prompt."""
    return [] if system is None else [Message(role="system", content=system)]


def question(system: str | None, text: str) -> list[Message]:
    """A conversation of one question; see `opening`.

    Raises:
        PromptError: the question is blank.
    """
    messages = [*opening(system), Message(role="user", content=text)]
    render(messages)
    return messages


def encode_chat(tokenizer: Tokenizer, messages: Sequence[Message]) -> list[int]:
    """Prompt ids: BOS before each turn, EOS after each answered one.

    A turn and its answer are encoded as one text, as in training and in llama.cpp.

    Raises:
        PromptError: the order of roles is wrong, a user message is blank, or a text is not
            valid Unicode.
    """
    *answered, last = render(messages)
    token_ids: list[int] = []
    for turn in answered:
        token_ids += [*tokenizer.encode(turn, add_bos=True), tokenizer.eos_token_id]
    return token_ids + tokenizer.encode(last, add_bos=True)


def render(messages: Sequence[Message]) -> list[str]:
    """Text of each turn; all but the last contain their answer.

    No system message means the default system prompt, an empty one means none at all.

    Raises:
        PromptError: the order of roles is wrong or a user message is blank.
    """
    system, dialogue = _split_system(messages)
    _check_dialogue(dialogue)
    instructions = [message.content for message in dialogue[0::2]]
    answers = [ANSWER.format(answer=message.content) for message in dialogue[1::2]]
    if system:
        instructions[0] = SYSTEM_BLOCK.format(system=system) + instructions[0]
    turns = [TURN.format(instruction=instruction) for instruction in instructions]
    return [turn + answer for turn, answer in zip(turns, [*answers, ""], strict=True)]


def _split_system(messages: Sequence[Message]) -> tuple[str, Sequence[Message]]:
    if messages and messages[0].role == "system":
        return messages[0].content, messages[1:]
    return DEFAULT_SYSTEM_PROMPT, messages


def _check_dialogue(dialogue: Sequence[Message]) -> None:
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
