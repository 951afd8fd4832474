"""Reads a result: the manual's, ours, atb_speed_sdk's, llama-bench's or one of accuracy.

What a file is shows in its content, not in its name.
"""

import csv
import json
import tomllib
from collections.abc import Callable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, ValidationError

from runtime.json_file import parse_json
from runtime.record import Record, first_problem
from toolchain.bench.csv_file import COLUMNS
from toolchain.bench.llama_bench import SpeedTest, speed_tests
from toolchain.bench.result import BenchResult
from toolchain.compare.side import CATEGORIES, CaseTimes, Side
from toolchain.errors import CompareError

__all__ = ["read_side"]

MANUAL = "manual:"
KINDS = (
    "JSON of `toolchain bench` or `toolchain eval`, JSON of llama-bench, CSV of a performance test"
)
Document = Any  # what json.loads gives


class Lenient(Record):
    """A file that others write: what is not read here is not looked at."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class Score(Lenient):
    """Right answers of a category."""

    correct: int = Field(ge=0)
    total: int = Field(gt=0)


class EvalFile(Lenient):
    """What `toolchain eval` writes, as far as it is compared."""

    benchmark: str
    model: str = ""
    categories: dict[str, Score]


class LlamaRow(Lenient):
    """A row of `llama-bench -o json`; rates in tokens/s."""

    model_type: str
    model_size: int
    model_n_params: int
    backends: str
    n_threads: int
    n_prompt: int
    n_gen: int
    n_depth: int = 0  # older versions have none
    avg_ts: float
    stddev_ts: float


def read_side(argument: str) -> Side:
    """A result by the path of its file, or manual:910b3 and manual:a100.

    Raises:
        CompareError: no such file or device, or content of none of the known kinds.
    """
    if argument.startswith(MANUAL):
        return _manual(argument.removeprefix(MANUAL))
    path = Path(argument)
    if not path.is_file():
        raise CompareError(f"no file {path}", allowed=f"{KINDS}, or {_manual_names()}")
    try:
        text = path.read_text(encoding="utf-8-sig")
        if text.startswith(COLUMNS[0]):
            return _csv(path, text)
        document = parse_json(text.encode(), str(path), CompareError)
        for recognise, read in READERS:
            if recognise(document):
                return read(path, document)
    except ValidationError as error:
        raise CompareError(f"{path}: {first_problem(error)}") from error
    except ValueError as error:  # neither JSON nor numbers where they should be
        raise CompareError(f"{path} cannot be read", got=str(error), allowed=KINDS) from error
    raise CompareError(f"{path} is no result that is known", allowed=KINDS)


def _manual_file() -> dict[str, Any]:
    """Ours, so its form is not checked."""
    return tomllib.loads((files("toolchain.compare") / "manual.toml").read_text(encoding="utf-8"))


def _manual_names() -> str:
    devices = (name for name, value in _manual_file().items() if isinstance(value, dict))
    return ", ".join(f"{MANUAL}{name}" for name in devices)


def _manual(name: str) -> Side:
    data = _manual_file()
    device = data.get(name)
    if not isinstance(device, dict):
        raise CompareError("the manual has no such device", got=name, allowed=_manual_names())
    return Side(
        name=device["name"],
        times=tuple(CaseTimes(**times) for times in device["times"]),
        accuracy=device["accuracy"],
        benchmark="ceval",
        notes=(f"{data['source']}: {data['note']}",),
    )


def _csv(path: Path, text: str) -> Side:
    rows = list(csv.DictReader(text.splitlines()))
    missing = [name for name in COLUMNS if any(row.get(name) is None for row in rows)]
    if missing or not rows:
        raise CompareError(
            f"{path}: columns are missing", got=", ".join(missing) or "no row", allowed=str(COLUMNS)
        )
    batch, num_in, num_out, _, first, after, *_ = COLUMNS
    times = tuple(
        CaseTimes(
            batch_size=int(row[batch]),
            input_tokens=int(row[num_in]),
            output_tokens=int(row[num_out]),
            first_token_ms=float(row[first]),
            per_token_ms=float(row[after]),
        )
        for row in rows
    )
    return Side(name=path.stem.removeprefix("performance_test_"), times=times)


def _ours(_: Path, document: Document) -> Side:
    result = BenchResult.model_validate_json(json.dumps(document))
    times = tuple(
        CaseTimes(
            batch_size=row.batch_size,
            input_tokens=row.input_tokens,
            output_tokens=row.output_tokens,
            first_token_ms=row.forward_first_ms.median,
            per_token_ms=row.forward_next_ms.median,
        )
        for row in result.rows
    )
    name = f"{result.name}, {result.device}"
    return Side(name=name, times=times, tests=tuple(speed_tests(result)))


def _several(path: Path, _: Document) -> Side:
    raise CompareError(
        f"{path} has the results of several bundles", next_step="bench each of them by itself"
    )


def _evaluation(path: Path, document: Document) -> Side:
    if document.get("version") != 1:
        raise CompareError(
            f"{path}: version of alpaca2-eval", got=document.get("version"), allowed="1"
        )
    evaluation = EvalFile.model_validate(document)
    scores = {key: score.correct / score.total for key, score in evaluation.categories.items()}
    return Side(name=evaluation.model or path.stem, accuracy=scores, benchmark=evaluation.benchmark)


def _classes(path: Path, document: Document) -> Side:
    return Side(name=path.stem, accuracy={key: float(document[key]) for key in CATEGORIES})


def _llama_bench(path: Path, document: Document) -> Side:
    rows = [LlamaRow.model_validate(row) for row in document]
    tests = tuple(
        SpeedTest(
            model=row.model_type,
            size_bytes=row.model_size,
            num_parameters=row.model_n_params,
            backend=row.backends,
            num_threads=row.n_threads,
            prompt_tokens=row.n_prompt,
            new_tokens=row.n_gen,
            depth_tokens=row.n_depth,
            batch_size=1,
            tokens_per_s=row.avg_ts,
            deviation_tokens_per_s=row.stddev_ts,
        )
        for row in rows
    )
    name = f"{rows[0].model_type}, llama-bench"
    return Side(name=name, times=_pairs(tests), tests=tests, from_llama_bench=True)


def _pairs(tests: Sequence[SpeedTest]) -> tuple[CaseTimes, ...]:
    """A prompt from nothing, and tokens after a context as long, are a case."""
    prompts = [test for test in tests if not test.new_tokens and not test.depth_tokens]
    answers = [test for test in tests if not test.prompt_tokens]
    return tuple(
        CaseTimes(
            batch_size=1,
            input_tokens=prompt.prompt_tokens,
            first_token_ms=1e3 * prompt.prompt_tokens / prompt.tokens_per_s,
            per_token_ms=1e3 / answer.tokens_per_s,
        )
        for prompt in prompts
        for answer in answers
        if answer.depth_tokens == prompt.prompt_tokens
    )


def _has_format(name: str) -> Callable[[Document], bool]:
    return lambda document: isinstance(document, dict) and document.get("format") == name


def _rows_with(key: str) -> Callable[[Document], bool]:
    def recognise(document: Document) -> bool:
        rows = document if isinstance(document, list) else []
        return bool(rows) and all(isinstance(row, dict) and key in row for row in rows)

    return recognise


def _is_classes(document: Document) -> bool:
    return isinstance(document, dict) and document.keys() >= CATEGORIES.keys()


Reader = Callable[[Path, Document], Side]
READERS: tuple[tuple[Callable[[Document], bool], Reader], ...] = (
    (_has_format("alpaca2-bench"), _ours),
    (_has_format("alpaca2-eval"), _evaluation),
    (_rows_with("avg_ts"), _llama_bench),
    (_rows_with("format"), _several),
    (_is_classes, _classes),  # result_0_classes_acc.json of atb_speed_sdk
)
