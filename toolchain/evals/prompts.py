"""Questions to prompt ids, with as many solved examples as fit.

Takes a style and a tokenizer; must not know the engine or how a choice is made.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from runtime.engine.kv_cache import common_prefix
from runtime.text.template import encode_chat
from runtime.text.tokenizer import Tokenizer
from toolchain.evals.benchmark import LETTERS, Exam, Question
from toolchain.evals.styles import (
    Asked,
    Style,
    make_header,
    messages,
    official_text,
    plain_text,
)

__all__ = ["Prompt", "Prompts"]

# Questions that begin unlike any other: a line end, which never joins the text before it to one
# token, and a Latin letter, which joins a space. What their prompts share, all prompts share.
PROBES = tuple(
    Question(id=-1, text=text, choices=("",) * len(LETTERS), answer="A") for text in ("\n", "a")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How a question becomes a text to show, and ids to run."""

    text: Callable[[Tokenizer, Asked], str]
    encode: Callable[[Tokenizer, Asked], list[int]]


FORMS = {
    "text": Form(
        text=lambda _, asked: plain_text(asked),
        encode=lambda tokenizer, asked: tokenizer.encode(plain_text(asked), add_bos=True),
    ),
    "chat": Form(
        text=lambda tokenizer, asked: tokenizer.template.text(tokenizer, messages(asked)),
        encode=lambda tokenizer, asked: encode_chat(tokenizer, messages(asked)),
    ),
    "official": Form(
        text=lambda _, asked: official_text(asked),
        encode=lambda tokenizer, asked: tokenizer.encode(official_text(asked), add_bos=True),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One question, ready to run.

    shared: leading tokens that it has in common with the subject's other questions.
    shots: examples that were left in.
    fits: whether the model can take it; without any example, if it does not.
    """

    token_ids: Sequence[int]
    shared: int
    shots: int
    fits: bool


@dataclass(slots=True)
class Prompts:
    """Makes the prompts of one subject.

    limit: the longest prompt in tokens; above it, examples are dropped from the end, one by one.
    """

    benchmark: str
    style: Style
    exam: Exam
    tokenizer: Tokenizer
    limit: int
    _openings: dict[int, list[int]] = field(default_factory=dict)

    def make(self, question: Question) -> Prompt:
        """The prompt with the most examples that fits, or the one without any that does not."""
        token_ids: list[int] = []
        for shots in range(len(self.exam.examples), -1, -1):
            token_ids = self.encode(question, shots)
            if len(token_ids) <= self.limit:
                shared = common_prefix(self._opening(shots), token_ids)
                return Prompt(token_ids=token_ids, shared=shared, shots=shots, fits=True)
        return Prompt(token_ids=token_ids, shared=0, shots=0, fits=False)

    def text(self, question: Question, shots: int) -> str:
        """What the prompt with so many examples says."""
        return FORMS[self.style.form].text(self.tokenizer, self._asked(question, shots))

    def encode(self, question: Question, shots: int) -> list[int]:
        """Ids of the prompt with so many examples."""
        return FORMS[self.style.form].encode(self.tokenizer, self._asked(question, shots))

    def _asked(self, question: Question, shots: int) -> Asked:
        return Asked(
            style=self.style,
            key=self.exam.subject,
            header=make_header(self.style, self.benchmark, self.exam),
            shots=self.exam.examples[:shots],
            question=question,
        )

    def _opening(self, shots: int) -> list[int]:
        if shots not in self._openings:
            first, second = (self.encode(probe, shots) for probe in PROBES)
            self._openings[shots] = first[: common_prefix(first, second)]
        return self._openings[shots]
