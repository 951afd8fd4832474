"""The style of the model's makers, rebuilt from the files and SentencePiece with nothing of ours.

ymcui/Chinese-LLaMA-Alpaca-2 at 2a334d1, scripts/ceval/llama_evaluator.py: one text, BOS before it.
"""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sentencepiece import SentencePieceProcessor

from runtime.bundle.manifest import Graph
from runtime.engine.engine import Engine
from runtime.engine.scheduler import Scheduler
from runtime.errors import EvalError
from runtime.sessions.base import Chunk, Logits
from runtime.text.sentencepiece_tokenizer import SentencePieceTokenizer
from tests.paths import DATA
from tests.toolchain.evals.oracle import OracleSession
from toolchain.evals.answers import ask
from toolchain.evals.evaluation import BENCHMARKS, Evaluation
from toolchain.evals.prompts import Prompt, Prompts
from toolchain.evals.styles import STYLES

STYLE = STYLES["alpaca2-official"]
HEAD = "[INST] <<SYS>>\nYou are a helpful assistant. 你是一个乐于助人的助手。\n<</SYS>>\n\n"
TWO_SHOTS = """\
[INST] <<SYS>>
You are a helpful assistant. 你是一个乐于助人的助手。
<</SYS>>

以下是中国关于college_physics考试的单项选择题，请选出其中的正确答案。

 [/INST]好的，我会结合college_physics相关知识回答[INST] 一
A. 1
B. 2
C. 3
D. 4
答案：[/INST]B
[INST] 二
A. 5
B. 6
C. 7
D. 8
答案：[/INST]C
[INST] <<SYS>>
You are a helpful assistant. 你是一个乐于助人的助手。
<</SYS>>

三
A. 9
B. 10
C. 11
D. 12
答案： [/INST]"""
Row = dict[str, str]


def rows_of(file: Path) -> list[Row]:
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def body(row: Row) -> str:
    return row["question"] + "".join(f"\n{letter}. {row[letter]}" for letter in "ABCD")


def rebuilt(subject: str, examples: list[Row], row: Row) -> str:
    """As the makers' script joins it."""
    history = ""
    if examples:
        intro = f"以下是中国关于{subject}考试的单项选择题，请选出其中的正确答案。\n\n"
        history = f"{HEAD}{intro} [/INST]好的，我会结合{subject}相关知识回答"
        for example in examples:
            history += f"[INST] {body(example)}\n答案：[/INST]{example['answer']}\n"
    return f"{history}{HEAD}{body(row)}\n答案： [/INST]"


def pairs(data: Path, model: Path, shots: int) -> Iterator[tuple[list[int], list[int]]]:
    """The ids of every question there, ours and rebuilt."""
    processor: Any = SentencePieceProcessor(model_file=str(model))
    tokenizer = SentencePieceTokenizer(model)
    benchmark = BENCHMARKS["ceval"]
    subjects = sorted(file.stem.removesuffix("_val") for file in (data / "val").glob("*.csv"))
    for exam in benchmark.read(data, subjects, shots, None):
        prompts = Prompts("ceval", STYLE, exam, tokenizer, 10**6)
        examples = rows_of(data / f"dev/{exam.subject}_dev.csv")[:shots]
        rows = rows_of(data / f"val/{exam.subject}_val.csv")
        for question, row in zip(exam.questions, rows, strict=True):
            text = rebuilt(exam.subject, examples, row)
            assert prompts.text(question, shots) == text
            expected = [processor.bos_id(), *processor.encode(text)]
            yield list(prompts.make(question).token_ids), expected


@pytest.mark.parametrize("shots", [0, 2, 5])
def test_the_ids_are_the_makers_on_the_made_up_questions(shots: int, bundles: Path) -> None:
    model = bundles / "checkpoint/tokenizer.model"
    found = list(pairs(DATA / "ceval", model, shots))
    assert len(found) == 29
    assert all(ours == theirs for ours, theirs in found)


@pytest.mark.parametrize("shots", [0, 5])
def test_the_ids_are_the_makers_on_all_of_ceval(shots: int, shared_data: Path) -> None:
    model = shared_data / "tokenizer/tokenizer.model"
    found = list(pairs(shared_data / "ceval", model, shots))
    assert len(found) == 1346
    assert all(ours == theirs for ours, theirs in found)


def test_the_text_is_this_to_the_letter(bundles: Path, tmp_path: Path) -> None:
    header = "id,question,A,B,C,D,answer\n"
    for split, rows in (
        ("dev", "0,一,1,2,3,4,B\n1,二,5,6,7,8,C\n"),
        ("val", "0,三,9,10,11,12,D\n"),
    ):
        (tmp_path / split).mkdir()
        file = tmp_path / split / f"college_physics_{split}.csv"
        file.write_text(header + rows, encoding="utf-8")
    [exam] = BENCHMARKS["ceval"].read(tmp_path, ["college_physics"], 2, None)
    tokenizer = SentencePieceTokenizer(bundles / "checkpoint/tokenizer.model")
    prompts = Prompts("ceval", STYLE, exam, tokenizer, 10**6)
    assert prompts.text(exam.questions[0], 2) == TWO_SHOTS
    assert prompts.text(exam.questions[0], 0) == TWO_SHOTS[TWO_SHOTS.rindex("[INST] <<SYS>>") :]


class Random(OracleSession):
    """Logits of chance, the same for every prompt until they are drawn again."""

    row: NDArray[np.float32]

    def run(self, graph: Graph, chunks: Sequence[Chunk]) -> Logits:
        return self.row[None]


def makers_choice(row: NDArray[np.float32], prompt: list[int], processor: Any) -> str:
    """With transformers' penalty and temperature over the whole row, as their script has them."""
    scores = row.astype(np.float64)
    for token_id in set(prompt):
        scores[token_id] *= 1.1 if scores[token_id] < 0 else 1 / 1.1
    scores /= 0.2
    spaced = [processor.encode(letter)[-1] for letter in "ABCD"]  # the real tokenizer has one piece
    bare = [processor.encode(f"：{letter}")[-1] for letter in "ABCD"]
    return "ABCD"[int(np.argmax(scores[spaced] + scores[bare]))]


def test_the_choice_is_the_makers_penalty_and_all(bundles: Path) -> None:
    model = bundles / "checkpoint/tokenizer.model"
    processor: Any = SentencePieceProcessor(model_file=str(model))
    tokenizer, rng = SentencePieceTokenizer(model), np.random.default_rng(5)
    session = Random(tokenizer, {})
    prompt = tokenizer.encode("[INST] A. 1 [/INST]", add_bos=True)
    made = Prompt(token_ids=prompt, shared=0, shots=0, fits=True)
    plain = STYLE.model_copy(update={"repetition_penalty": 1.0})
    differing = 0
    for _ in range(200):
        session.row = rng.normal(size=tokenizer.vocab_size).astype(np.float32) * 4
        scheduler = Scheduler(Engine(session))
        expected = makers_choice(session.row, prompt, processor)
        assert ask(scheduler, tokenizer, STYLE, made).prediction == expected
        differing += ask(scheduler, tokenizer, plain, made).prediction != expected
    assert differing  # so the penalty matters


def test_the_makers_have_no_prompt_for_mmlu(tmp_path: Path) -> None:
    evaluation = Evaluation(
        benchmark=BENCHMARKS["mmlu"], data=tmp_path, style="alpaca2-official", shots=0
    )
    with pytest.raises(EvalError, match="no words for this benchmark; got mmlu; allowed: ceval"):
        _ = evaluation.prompt_style
