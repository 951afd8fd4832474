"""Prompt styles as data: how a question is put, and how the choice is read.

Renders text; knows nothing of token ids or models.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from runtime.record import Record
from runtime.text.alpaca2 import DEFAULT_SYSTEM_PROMPT
from runtime.text.template import Message
from toolchain.evals.benchmark import LETTERS, Exam, Question

__all__ = [
    "NO_CHOICE",
    "STYLES",
    "Asked",
    "Style",
    "first_letter",
    "make_header",
    "messages",
    "official_text",
    "plain_text",
]

NO_CHOICE = "-1"


class Style(Record):
    """One way to examine a model; every field is part of what a result depends on.

    headers: benchmark -> what stands before the first question; {key} is the subject's file name,
        {subject} that with spaces for underscores, {title} what the benchmark calls it.
    cue: the line that asks for the letter.
    form: text: plain text; chat: through the chat template, each example as a turn; official: as
        one text with the marks of the template, as the model's makers put it.
    reading: generate: the first ASCII letter of the answer, upper-cased; choose: the letter with
        the highest logits.
    repetition_penalty: on the logits of ids that the prompt has, where logits decide.
    max_prompt_tokens: a longer prompt drops examples; None: what the cache holds.
    max_new_tokens: where an answer without a letter ends.
    """

    headers: Mapping[str, str]
    cue: str
    form: Literal["text", "chat", "official"]
    reading: Literal["generate", "choose"]
    repetition_penalty: float = 1.0
    max_prompt_tokens: int | None
    max_new_tokens: int


# Two spaces before the subject: the SDK inherits them from the authors' script for MMLU.
SDK_HEADER = "The following are multiple choice questions (with answers) about  {subject}.\n\n"

STYLES = {
    # What the manual's SDK does, so that its figures can be compared.
    "sdk": Style(
        headers={"ceval": SDK_HEADER, "mmlu": SDK_HEADER},
        cue="Answer:",
        form="text",
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
        form="chat",
        reading="choose",
        max_prompt_tokens=None,
        max_new_tokens=1,
    ),
    # What the model's makers score with: ymcui/Chinese-LLaMA-Alpaca-2, scripts/ceval at 2a334d1,
    # with --with_prompt True and constrained decoding.
    "alpaca2-official": Style(
        headers={"ceval": "以下是中国关于{key}考试的单项选择题，请选出其中的正确答案。\n\n"},
        cue="答案：",
        form="official",
        reading="choose",
        repetition_penalty=1.1,
        max_prompt_tokens=None,
        max_new_tokens=1,
    ),
}
SYSTEM = f"<<SYS>>\n{DEFAULT_SYSTEM_PROMPT}\n<</SYS>>\n\n"


def first_letter(text: str) -> str:
    """The first ASCII letter anywhere, upper-cased, or "-1".

    It need not be one of A to D: "The answer is B" reads as T, hence wrong, as in the SDK. A
    full-width letter is not ASCII and is passed over.
    """
    found = re.search("[A-Za-z]", text)
    return found.group().upper() if found else NO_CHOICE


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question with all that a style puts around it.

    key: the subject's file name.
    header: what stands before the first question.
    shots: solved examples.
    """

    style: Style
    key: str
    header: str
    shots: Sequence[Question]
    question: Question


def plain_text(asked: Asked) -> str:
    """Header, solved examples and question as one text."""
    style = asked.style
    examples = [f"{_ask(style, shot)} {shot.answer}\n\n" for shot in asked.shots]
    return "".join([asked.header, *examples, _ask(style, asked.question)])


def messages(asked: Asked) -> list[Message]:
    """The same as a conversation: each example is a question and its answer."""
    turns: list[Message] = []
    for shot in asked.shots:
        turns.append(Message(role="user", content=_ask(asked.style, shot)))
        turns.append(Message(role="assistant", content=shot.answer))
    turns.append(Message(role="user", content=_ask(asked.style, asked.question)))
    turns[0] = Message(role="user", content=asked.header + turns[0].content)
    return turns


def official_text(asked: Asked) -> str:
    """One text with BOS before it alone; without examples the header is left out, as there.

    With examples the header is a turn of its own, which the model is made to accept, and the system
    prompt stands twice.
    """
    style, opening = asked.style, ""
    if asked.shots:
        accepted = f"好的，我会结合{asked.key}相关知识回答"
        turns = [f"[INST] {_ask(style, shot)}[/INST]{shot.answer}\n" for shot in asked.shots]
        opening = "".join([f"[INST] {SYSTEM}{asked.header} [/INST]{accepted}", *turns])
    return f"{opening}[INST] {SYSTEM}{_ask(style, asked.question)} [/INST]"


def make_header(style: Style, benchmark: str, exam: Exam) -> str:
    """What stands before the first question of a subject."""
    return style.headers[benchmark].format(
        key=exam.subject, subject=exam.subject.replace("_", " "), title=exam.title
    )


def _ask(style: Style, question: Question) -> str:
    lines = [f"{letter}. {text}" for letter, text in zip(LETTERS, question.choices, strict=True)]
    return "\n".join([question.text, *lines, style.cue])
