"""Claims about toolchain.evals.styles and prompts: what the model reads, letter for letter."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.text.sentencepiece_tokenizer import SentencePieceTokenizer
from runtime.text.tokenizer import Tokenizer
from tests.toolchain.evals.oracle import SUBJECTS, read_exams
from toolchain.evals.benchmark import Exam, Question
from toolchain.evals.ceval import CEVAL
from toolchain.evals.prompts import Prompts
from toolchain.evals.styles import STYLES, first_letter

SHOT = Question(id=0, text="1+1=____", choices=("1", "2", "3", "4"), answer="B")
ASKED = Question(id=0, text="2+2=____", choices=("4", "5", "6", "7"), answer="A")
EXAM = Exam(subject="college_physics", title="大学物理", examples=(SHOT,), questions=(ASKED,))

SDK = """\
The following are multiple choice questions (with answers) about  college physics.

1+1=____
A. 1
B. 2
C. 3
D. 4
Answer: B

2+2=____
A. 4
B. 5
C. 6
D. 7
Answer:"""
ALPACA2 = """\
[INST] <<SYS>>
You are a helpful assistant. 你是一个乐于助人的助手。
<</SYS>>

以下是中国关于大学物理考试的单项选择题，请选出其中的正确答案。

1+1=____
A. 1
B. 2
C. 3
D. 4
答案： [/INST] B
[INST] 2+2=____
A. 4
B. 5
C. 6
D. 7
答案： [/INST]"""


@pytest.fixture(scope="module")
def tokenizer(tokenizer_model: Path) -> Tokenizer:
    return SentencePieceTokenizer(tokenizer_model)


def prompts(style: str, tokenizer: Tokenizer, limit: int = 10_000, exam: Exam = EXAM) -> Prompts:
    return Prompts("ceval", STYLES[style], exam, tokenizer, limit)


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        (" B", "B"),
        ("b", "B"),
        ("答案是c。", "C"),
        ("The answer is B", "T"),  # as in the SDK, which counts it as wrong
        ("Ａ", "-1"),  # a full-width letter is not ASCII
        ("Ａ D", "D"),
        ("（２）", "-1"),
        ("", "-1"),
        ("E", "E"),
    ],
)
def test_the_first_ascii_letter_counts(text: str, letter: str) -> None:
    assert first_letter(text) == letter


@pytest.mark.parametrize(("style", "expected"), [("sdk", SDK), ("alpaca2", ALPACA2)])
def test_a_style_says_exactly_this(style: str, expected: str, tokenizer: Tokenizer) -> None:
    assert prompts(style, tokenizer).text(ASKED, 1) == expected


def test_the_sdk_style_is_one_plain_text(tokenizer: Tokenizer) -> None:
    prompt = prompts("sdk", tokenizer).make(ASKED)
    assert prompt.token_ids == tokenizer.encode(SDK, add_bos=True)


def test_every_turn_of_the_chat_style_is_a_turn(tokenizer: Tokenizer) -> None:
    prompt = prompts("alpaca2", tokenizer).make(ASKED)
    first, second = ALPACA2.split("\n[INST] 2")
    assert prompt.token_ids == [
        *tokenizer.encode(first, add_bos=True),
        tokenizer.eos_token_id,
        *tokenizer.encode(f"[INST] 2{second}", add_bos=True),
    ]


@pytest.mark.parametrize("style", STYLES)
def test_the_questions_of_a_subject_share_all_that_stands_before_them(
    style: str, tokenizer: Tokenizer
) -> None:
    check_sharing(style, tokenizer, read_exams(subjects=SUBJECTS))


@pytest.mark.parametrize("style", STYLES)
def test_real_questions_do_too_whatever_they_begin_with(style: str, shared_data: Path) -> None:
    """A Latin letter joins the space before it to one token, a Chinese one does not."""
    tokenizer = SentencePieceTokenizer(shared_data / "tokenizer/tokenizer.model")
    subjects = ["accountant", "college_programming", "high_school_biology"]
    check_sharing(style, tokenizer, CEVAL.read(shared_data / "ceval", subjects, 5, None))


def check_sharing(style: str, tokenizer: Tokenizer, exams: Iterable[Exam]) -> None:
    for exam in exams:
        maker = prompts(style, tokenizer, exam=exam)
        made = [maker.make(question) for question in exam.questions]
        [shared] = {tuple(prompt.token_ids[: prompt.shared]) for prompt in made}
        opening = tokenizer.decode(maker.encode(replace(exam.questions[0], text="#"), 5))
        told = tokenizer.decode(shared)
        assert opening.startswith(told)
        assert opening[len(told) :].startswith(("#", " #"))


@pytest.mark.parametrize("style", STYLES)
def test_a_long_prompt_drops_one_example_at_a_time_and_then_does_not_fit(
    style: str, tokenizer: Tokenizer
) -> None:
    exam = read_exams(subjects=["law"])[0]
    question = exam.questions[0]
    lengths = [len(prompts(style, tokenizer, exam=exam).encode(question, k)) for k in range(6)]
    assert lengths == sorted(set(lengths))
    for shots, length in enumerate(lengths):
        prompt = prompts(style, tokenizer, length, exam).make(question)
        assert (prompt.shots, len(prompt.token_ids), prompt.fits) == (shots, length, True)
        shorter = prompts(style, tokenizer, length - 1, exam).make(question)
        assert (shorter.shots, shorter.fits) == (max(shots - 1, 0), shots > 0)
