"""Evaluations of the made-up questions over HTTP: of our server, and of a fake one."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from runtime.bundle.reader import load_bundle
from runtime.engine.engine import Engine
from runtime.engine.scheduler import Scheduler
from runtime.sessions import open_session
from runtime.text.from_bundle import open_tokenizer
from runtime.text.sentencepiece_tokenizer import SentencePieceTokenizer
from runtime.text.tokenizer import Tokenizer
from tests.paths import DATA
from tests.toolchain.evals.oracle import SUBJECTS
from tests.toolchain.remote.fake_server import Fake, Play, answer, fake_server
from toolchain.evals.evaluation import BENCHMARKS, Evaluation
from toolchain.evals.examine import Effort, examine
from toolchain.evals.examinee import OnBundle, describe_bundle
from toolchain.evals.over_http import (
    PROBE,
    OverHTTP,
    examine_server,
    read_tokenizer,
)
from toolchain.evals.results import EvalResult
from toolchain.remote.address import Address
from toolchain.remote.server import open_server


def evaluation(style: str, subjects: tuple[str, ...] = SUBJECTS, shots: int = 2) -> Evaluation:
    return Evaluation(
        benchmark=BENCHMARKS["ceval"],
        data=DATA / "ceval",
        style=style,
        shots=shots,
        subjects=subjects,
    )


def lines(output: Path) -> list[dict[str, Any]]:
    [log] = output.glob("log-*.jsonl")
    return [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()[1:]]


@contextmanager
def on_server(url: str, tokenizer: Path, concurrency: int = 1) -> Iterator[OverHTTP]:
    with open_server(Address(root=url, timeout=60), lambda _: None) as server:
        yield examine_server(server, None, read_tokenizer(tokenizer), None, concurrency)


def over_http(
    url: str, tokenizer: Path, asked: Evaluation, output: Path, concurrency: int = 1
) -> tuple[EvalResult, Effort]:
    with on_server(url, tokenizer, concurrency) as examinee:
        return examine(asked, examinee, output, None)


def on_bundle(bundle: Path, asked: Evaluation, output: Path) -> EvalResult:
    loaded = load_bundle(bundle)
    with closing(open_session(loaded)) as session:
        examinee = OnBundle(
            scheduler=Scheduler(Engine(session)),
            tokenizer=open_tokenizer(loaded),
            described=describe_bundle(loaded),
        )
        return examine(asked, examinee, output, None)[0]


def ids_of(model: Path) -> tuple[Tokenizer, dict[str, Any]]:
    tokenizer = SentencePieceTokenizer(model)
    return tokenizer, {"/tokenize": {"tokens": tokenizer.encode(PROBE)}}


def entry(token_id: int, text: str, logprob: float) -> dict[str, Any]:
    return {"id": token_id, "token": text, "logprob": logprob}


def forced(logprob: Callable[[int], float], text: Callable[[str], str] = str) -> Play:
    """A server that shows no likeliest tokens but follows logit_bias, in llama.cpp's words."""

    def play(handler: Any, body: dict[str, Any]) -> None:
        first = entry(70, "x", -0.1) | {"top_logprobs": []}
        for token_id in map(int, body.get("logit_bias", {})):
            token = text(handler.fake.tokenizer.token_bytes(token_id).decode())
            first = entry(token_id, token, logprob(token_id))
        answer({"choices": [{"text": "", "logprobs": {"content": [first]}}]})(handler, body)

    return play


class Letters(Fake):
    tokenizer: Tokenizer


def evaluate_fake(fake: Letters, model: Path, output: Path, style: str) -> list[dict[str, Any]]:
    fake.tokenizer, fake.others = ids_of(model)
    fake.models = ({"id": "fake", "max_model_len": 2048},)
    with fake_server(fake) as url:
        over_http(url, model, evaluation(style, ("law",), 0), output)
    return lines(output)
