"""A model whose answers are written down: a session that recognises the question in its slot.

Run as a program it evaluates like the command does and prints a line per answer, to be killed.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from runtime.bundle.cpu_costs import cost_on_cpu
from runtime.bundle.manifest import Graph, GraphSpec, Manifest, Phase
from runtime.engine.engine import Engine
from runtime.engine.scheduler import Scheduler
from runtime.sessions.base import Chunk, Logits
from runtime.text.sentencepiece_tokenizer import SentencePieceTokenizer
from runtime.text.tokenizer import Tokenizer
from tests.models import TINY, bare_manifest
from tests.paths import DATA
from toolchain.evals.benchmark import LETTERS, Exam
from toolchain.evals.evaluation import BENCHMARKS, Evaluation
from toolchain.evals.examine import Effort, examine
from toolchain.evals.examinee import OnBundle
from toolchain.evals.results import EvalResult

SUBJECTS = tuple(sorted(p.stem.removesuffix("_val") for p in (DATA / "ceval/val").glob("*.csv")))
BUNDLE = {"name": "oracle", "manifest_sha256": "0", "target": "none", "weights": "none"}


@dataclass
class OracleSession:
    """Says for each question, wherever it stands last, the reply that `replies` has for it."""

    tokenizer: Tokenizer
    replies: Mapping[str, str]
    cache_len: int = 8192
    static_shapes: bool = False
    rows: dict[int, list[int]] = field(default_factory=dict)
    said: dict[int, int] = field(default_factory=dict)
    hidden: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    manifest: Manifest = field(init=False)

    def __post_init__(self) -> None:
        lengths: dict[Phase, int] = {"prefill": 64, "decode": 1}
        specs = [
            GraphSpec(phase=phase, batch_size=1, seq_len=length, cache_len=self.cache_len)
            for phase, length in lengths.items()
        ]
        model = TINY.model_copy(update={"vocab_size": self.tokenizer.vocab_size})
        graphs = [
            Graph(spec=spec, path="", cost=cost_on_cpu(spec), inputs=(), outputs=())
            for spec in specs
        ]
        self.manifest = bare_manifest(model, tuple(graphs))

    def prepare(self, graph: Graph) -> None:
        pass

    def run(self, graph: Graph, chunks: Sequence[Chunk]) -> Logits:
        [chunk] = chunks
        rows = self.rows.setdefault(chunk.slot, [])
        assert chunk.start <= len(rows), "the engine counts on rows that nobody wrote"
        rows[chunk.start :] = chunk.token_ids
        decoding = graph.spec.phase == "decode"
        self.said[chunk.slot] = self.said[chunk.slot] + 1 if decoding else 0
        reply = self._reply(rows)
        logits = np.zeros((1, self.tokenizer.vocab_size), np.float32)
        tokens = [*self.tokenizer.encode(reply), self.tokenizer.eos_token_id]
        logits[0, tokens[min(self.said[chunk.slot], len(tokens) - 1)]] = 10
        if reply in LETTERS and not decoding:
            logits[0, self.tokenizer.encode(reply)[-1]] = 9.5
        return logits

    def copy_rows(self, source: int, target: int, num_rows: int) -> None:
        self.rows[target] = self.rows[source][:num_rows]

    def close(self) -> None:
        self.rows.clear()

    def _reply(self, rows: list[int]) -> str:
        text = self.tokenizer.decode(rows)
        last = max(self.replies, key=text.rfind)
        return self.replies[last] if last in text else ""


def read_exams(benchmark: str = "ceval", subjects: Sequence[str] = SUBJECTS) -> list[Exam]:
    return list(BENCHMARKS[benchmark].read(DATA / benchmark, subjects, 5, None))


def right_answers(exams: Sequence[Exam]) -> dict[str, str]:
    return {question.text: question.answer for exam in exams for question in exam.questions}


def evaluate(
    session: OracleSession,
    output: Path,
    *,
    style: str = "sdk",
    shots: int = 5,
    subjects: tuple[str, ...] = SUBJECTS,
    data: Path = DATA / "ceval",
    limit: int | None = None,
    prefix_reuse: bool = True,
) -> tuple[EvalResult, Effort]:
    """Evaluates on the made-up questions."""
    evaluation = Evaluation(
        benchmark=BENCHMARKS["ceval"],
        data=data,
        style=style,
        shots=shots,
        subjects=subjects,
        limit=limit,
        prefix_reuse=prefix_reuse,
    )
    scheduler = Scheduler(Engine(session, reuse_prefix=prefix_reuse))
    examinee = OnBundle(scheduler=scheduler, tokenizer=session.tokenizer, described=BUNDLE)
    return examine(evaluation, examinee, output, None)


def answers_in_turn(exams: Sequence[Exam]) -> dict[str, str]:
    """Some right, some wrong, some none: A, B, C, D, nothing, A, ..."""
    texts = [question.text for exam in exams for question in exam.questions]
    return {text: (*LETTERS, "")[i % 5] for i, text in enumerate(texts)}


class Told(OracleSession):
    """Tells the reader of stdout about every question that it is asked."""

    def run(self, graph: Graph, chunks: Sequence[Chunk]) -> Logits:
        if graph.spec.phase == "prefill" and self.rows and len(chunks[0].token_ids) < 64:
            print("asked", flush=True)
        return super().run(graph, chunks)


if __name__ == "__main__":
    settings = json.loads(sys.argv[3])
    told = Told(SentencePieceTokenizer(Path(sys.argv[1])), answers_in_turn(read_exams()))
    evaluate(told, Path(sys.argv[2]), **settings)
