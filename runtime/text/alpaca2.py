"""The Alpaca-2 prompt template."""

from collections.abc import Sequence

from runtime.text.template import Encoder, Message, check_order

__all__ = ["DEFAULT_SYSTEM_PROMPT", "Alpaca2Template", "render"]

# ymcui/Chinese-LLaMA-Alpaca-2, prompts/alpaca-2.txt
DEFAULT_SYSTEM_PROMPT = "You are a helpful assistant. 你是一个乐于助人的助手。"
SYSTEM_BLOCK = "<<SYS>>\n{system}\n<</SYS>>\n\n"
TURN = "[INST] {instruction} [/INST]"
ANSWER = " {answer}"


class Alpaca2Template:
    """A Template; see there for its methods."""

    default_system_prompt = DEFAULT_SYSTEM_PROMPT

    def text(self, tokenizer: Encoder, messages: Sequence[Message]) -> str:
        return "\n".join(render(messages))

    def encode(self, tokenizer: Encoder, messages: Sequence[Message]) -> list[int]:
        """Prompt ids: BOS before each turn, EOS after each answered one.

        A turn and its answer are encoded as one text, as in training and in llama.cpp.
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
    check_order(messages)
    system, dialogue = _split_system(messages)
    instructions = [message.content for message in dialogue[0::2]]
    answers = [ANSWER.format(answer=message.content) for message in dialogue[1::2]]
    if system:
        instructions[0] = SYSTEM_BLOCK.format(system=system) + instructions[0]
    turns = [TURN.format(instruction=instruction) for instruction in instructions]
    return [turn + answer for turn, answer in zip(turns, [*answers, ""], strict=True)]


def _split_system(messages: Sequence[Message]) -> tuple[str, Sequence[Message]]:
    if messages[0].role == "system":
        return messages[0].content, messages[1:]
    return DEFAULT_SYSTEM_PROMPT, messages
