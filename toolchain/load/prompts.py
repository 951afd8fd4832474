"""Random prompts of a given length; no two begin alike but by chance."""

from dataclasses import dataclass
from random import Random

from toolchain.remote.server import Server

__all__ = ["IdPrompts", "Prompts", "TextPrompts", "find_prompts"]

TEXT = (
    "A small box at the edge of the city answers questions about weather, trains, bread and rivers "
    "while twelve engineers measure how quickly every word arrives. Numbers such as 7, 42 and 1999 "
    "matter less than patience, because good machines are slow to anger and quick to listen; green "
    "lamps glow above old desks, rain falls, keys click, someone laughs, and the night goes on. "
    "长江从西向东流入大海，春天的山上开满了花。工程师在实验室里测量速度，学生在图书馆读书，"
    "火车经过许多城市，老人喝茶下棋，孩子问为什么天空是蓝色的。机器回答问题，每一个字都有自己的时间。"
)
TOKENS_PER_WORD = 4 / 3  # of English text, where the server's tokenizer is not known


@dataclass(frozen=True, slots=True)
class IdPrompts:
    """Prompts as token ids, of exactly the length that is asked for."""

    token_ids: list[int]
    kind = "token ids"

    def make(self, num_tokens: int, rng: Random) -> list[int]:
        """One prompt."""
        return rng.choices(self.token_ids, k=num_tokens)


@dataclass(frozen=True, slots=True)
class TextPrompts:
    """Prompts as words, of about the length that is asked for; the server says how long."""

    tokens_per_word: float
    kind = "text"

    def make(self, num_tokens: int, rng: Random) -> str:
        """One prompt."""
        num_words = max(1, round(num_tokens / self.tokens_per_word))
        return " ".join(rng.choices(_words(), k=num_words))


Prompts = IdPrompts | TextPrompts


def _words() -> list[str]:
    return [word for word in TEXT.split() if word.isascii()]


def find_prompts(server: Server, *, chat: bool) -> Prompts:
    """Ids where the server's tokenizer can be asked for some, else text; text for a chat.

    Raises:
        RemoteError: the server does not answer.
    """
    token_ids = server.tokenize(TEXT)
    if token_ids is None:
        return TextPrompts(TOKENS_PER_WORD)
    if not chat:
        return IdPrompts(sorted(set(token_ids)))
    words = _words()
    return TextPrompts(len(server.tokenize(" ".join(words)) or ()) / len(words))
