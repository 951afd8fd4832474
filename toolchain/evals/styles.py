"""Prompt styles as data: how a question is put, and how the choice is read.

Renders text; knows nothing of token ids or models.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Literal

from runtime.record import Record
from runtime.text.template import Message
from toolchain.evals.benchmark import LETTERS, Exam, Question

__all__ = [
    "NO_CHOICE",
    "STYLES",
    "Style",
    "first_letter",
    "make_header",
    "messages",
    "plain_text",
]

NO_CHOICE = "-1"


class Style(Record):
    """One way to examine a model; every field is part of what a result depends on.

    headers: benchmark -> what stands before the first question; {subject} is the key with spaces
        for underscores, {title} what the benchmark calls it.
    cue: the line that asks for the letter.
    chat: whether it goes through the chat template, each example as a turn, or is plain text.
    reading: generate: the first ASCII letter of the answer, upper-cased; choose: the letter with
        the highest logits.
    max_prompt_tokens: a longer prompt drops examples; None: what the cache holds.
    max_new_tokens: where an answer without a letter ends.
    """

    headers: Mapping[str, str]
    cue: str
    chat: bool
    reading: Literal["generate", "choose"]
    max_prompt_tokens: int | None
    max_new_tokens: int


# Two spaces before the subject: the SDK inherits them from the authors' script for MMLU.
SDK_HEADER = "The following are multiple choice questions (with answers) about  {subject}.\n\n"

STYLES = {
    # What the manual's SDK does, so that its figures can be compared.
    "sdk": Style(
        headers={"ceval": SDK_HEADER, "mmlu": SDK_HEADER},
        cue="Answer:",
        chat=False,
        reading="generate",
        max_prompt_tokens=2000,
        max_new_tokens=32,
    ),
    # C-Eval's own prompt in the model's chat template.
    "alpaca2": Style(
        headers={
            "ceval": "以下是中国关于{title}考试的单项选择题，请选出其中的正确答案。\n\n",
            "mmlu": "以下是关于{title}的单项选择题，请选出其中的正确答案。\n\n",
        },
        cue="答案：",
        chat=True,
        reading="choose",
        max_prompt_tokens=None,
        max_new_tokens=1,
    ),
}


def first_letter(text: str) -> str:
    """The first ASCII letter anywhere, upper-cased, or "-1".

    It need not be one of A to D: "The answer is B" reads as T, hence wrong, as in the SDK. A
    full-width letter is not ASCII and is passed over.
    """
    found = re.search("[A-Za-z]", text)
    return found.group().upper() if found else NO_CHOICE


def plain_text(style: Style, header: str, shots: Sequence[Question], question: Question) -> str:
    """Header, solved examples and question as one text."""
    examples = [f"{_ask(style, shot)} {shot.answer}\n\n" for shot in shots]
    return "".join([header, *examples, _ask(style, question)])


def messages(
    style: Style, header: str, shots: Sequence[Question], question: Question
) -> list[Message]:
    """The same as a conversation: each example is a question and its answer."""
    turns: list[Message] = []
    for shot in shots:
        turns.append(Message(role="user", content=_ask(style, shot)))
        turns.append(Message(role="assistant", content=shot.answer))
    turns.append(Message(role="user", content=_ask(style, question)))
    turns[0] = Message(role="user", content=header + turns[0].content)
    return turns


def make_header(style: Style, benchmark: str, exam: Exam) -> str:
    """What stands before the first question of a subject."""
    subject = exam.subject.replace("_", " ")
    return style.headers[benchmark].format(subject=subject, title=exam.title)


def _ask(style: Style, question: Question) -> str:
    lines = [f"{letter}. {text}" for letter, text in zip(LETTERS, question.choices, strict=True)]
    return "\n".join([question.text, *lines, style.cue])
