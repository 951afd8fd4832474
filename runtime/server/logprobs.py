r"""Log-probabilities as the two APIs write them.

Texts of tokens: a control token by its name, a part of a character as bytes:\xe4, as OpenAI's.
JSON has no infinity: what is less likely than FLOOR is as likely as it, as OpenAI's is.
"""

from collections.abc import Sequence

from runtime.engine.sequence import Logprobs, PromptLogprobs, Token
from runtime.server.replies import ChatLogprobs, LegacyLogprobs, TokenLogprob, TopLogprob
from runtime.text.tokenizer import StreamingDetokenizer, Tokenizer

__all__ = ["LegacyReport", "chat_report", "joined", "token_text"]

FLOOR = -9999.0


def token_bytes(tokenizer: Tokenizer, token_id: int) -> bytes:
    """The bytes of a token; of one without a text, its name."""
    if token_id >= tokenizer.vocab_size:  # a model's vocabulary may be padded
        return f"<{token_id}>".encode()
    return tokenizer.token_bytes(token_id) or tokenizer.name(token_id).encode()


def token_text(tokenizer: Tokenizer, token_id: int) -> str:
    r"""The text of a token, different for different bytes: parts of characters as bytes:\xe4."""
    data = token_bytes(tokenizer, token_id)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def chat_report(tokenizer: Tokenizer, tokens: Sequence[Token]) -> ChatLogprobs | None:
    """What a chat completion says of tokens; None where it was not asked for."""
    content = [
        TokenLogprob(
            **_entry(tokenizer, token.id, token.logprobs.logprob).model_dump(),
            top_logprobs=[_entry(tokenizer, *each) for each in token.logprobs.top],
        )
        for token in tokens
        if token.logprobs is not None
    ]
    return ChatLogprobs(content=content) if content else None


def _entry(tokenizer: Tokenizer, token_id: int, logprob: float) -> TopLogprob:
    return TopLogprob(
        token=token_text(tokenizer, token_id),
        logprob=max(logprob, FLOOR),
        bytes=list(token_bytes(tokenizer, token_id)),
    )


class LegacyReport:
    """What a text completion says of its tokens, one after the other.

    The likeliest are keyed by their texts. The token itself is always among them, with the very
    same number, so that a client can tell whether it was the likeliest.

    Args:
        tokenizer: the model's.
        at_start: whether the first token opens the text.
    """

    def __init__(self, tokenizer: Tokenizer, *, at_start: bool) -> None:
        self._tokenizer = tokenizer
        self._detokenizer = StreamingDetokenizer(tokenizer, at_start=at_start)
        self._offset = 0

    def prompt(self, token_ids: Sequence[int], logprobs: PromptLogprobs) -> LegacyLogprobs:
        """Of the tokens of a prompt; the first has no log-probability."""
        return self._report(list(zip(token_ids, logprobs, strict=True)))

    def answer(self, tokens: Sequence[Token]) -> LegacyLogprobs | None:
        """Of tokens of the answer; None where it was not asked for."""
        known = [(token.id, token.logprobs) for token in tokens if token.logprobs is not None]
        return self._report(known) if known else None

    def _report(self, entries: Sequence[tuple[int, Logprobs | None]]) -> LegacyLogprobs:
        return LegacyLogprobs(
            tokens=[token_text(self._tokenizer, token_id) for token_id, _ in entries],
            token_logprobs=[each and max(each.logprob, FLOOR) for _, each in entries],
            top_logprobs=[each and self._top(token_id, each) for token_id, each in entries],
            text_offset=[self._place(token_id) for token_id, _ in entries],
        )

    def _top(self, token_id: int, logprobs: Logprobs) -> dict[str, float]:
        top: dict[str, float] = {}
        for each, logprob in (*logprobs.top, (token_id, logprobs.logprob)):
            text = token_text(self._tokenizer, each)
            top[text] = max(logprob, top.get(text, FLOOR))
        return top

    def _place(self, token_id: int) -> int:
        """Characters of the text before a token."""
        offset = self._offset
        if token_id < self._tokenizer.vocab_size:
            self._offset += len(self._detokenizer.add(token_id))
        return offset


def joined(first: LegacyLogprobs, second: LegacyLogprobs | None) -> LegacyLogprobs:
    """Two reports as one."""
    if second is None:
        return first
    return LegacyLogprobs(
        tokens=first.tokens + second.tokens,
        token_logprobs=first.token_logprobs + second.token_logprobs,
        top_logprobs=first.top_logprobs + second.top_logprobs,
        text_offset=first.text_offset + second.text_offset,
    )
