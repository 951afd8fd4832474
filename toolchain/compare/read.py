"""Reads a result: the manual's, ours, atb_speed_sdk's, llama-bench's or one of accuracy.

What a file is shows in its content, not in its name.
"""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from runtime.json_file import parse_json, read_file
from runtime.record import first_problem
from toolchain.bench.csv_file import COLUMNS
from toolchain.bench.llama_bench import SpeedTest, speed_tests
from toolchain.bench.result import BenchResult, Spread
from toolchain.compare.accuracy_files import (
    Lenient,
    is_classes,
    read_classes,
    read_evaluation,
)
from toolchain.compare.manual import MANUAL, manual_names, manual_side
from toolchain.compare.side import CaseTimes, Measured, Side
from toolchain.errors import CompareError

__all__ = ["read_side"]

KINDS = (
    "JSON of `toolchain bench` or `toolchain eval`, JSON of llama-bench, CSV of a performance test"
)
Document = Any  # what json.loads gives
LEAST_MS = 1e-9


class LlamaRow(Lenient):
    """A row of `llama-bench -o json`; rates in tokens/s."""

    model_type: str
    model_size: int = Field(ge=0, le=10**15)
    model_n_params: int = Field(ge=0, le=10**15)
    backends: str
    n_threads: int = Field(ge=0, le=10**9)
    n_prompt: int = Field(ge=0, le=10**9)
    n_gen: int = Field(ge=0, le=10**9)
    n_depth: int = Field(ge=0, le=10**9, default=0)  # older versions have none
    avg_ts: Measured
    stddev_ts: float = Field(ge=0, le=1e15)


def read_side(argument: str) -> Side:
    """A result by the path of its file, or manual:910b3 and manual:a100.

    Raises:
        CompareError: no such file or device, or content of none of the known kinds.
    """
    if argument.startswith(MANUAL):
        return manual_side(argument.removeprefix(MANUAL))
    path = Path(argument)
    if not path.is_file():
        raise CompareError(f"no file {path}", allowed=f"{KINDS}, or {manual_names()}")
    data = read_file(path, CompareError)
    try:
        text = data.decode("utf-8-sig")
        if text.startswith(COLUMNS[0]):
            return _csv(path, text)
        document = parse_json(data, str(path), CompareError)
        for recognise, read in READERS:
            if recognise(document):
                return read(path, document)
    except ValidationError as error:
        raise CompareError(f"{path}: {first_problem(error)}") from error
    except (ValueError, csv.Error) as error:  # no text, or no numbers where they should be
        raise CompareError(f"{path} cannot be read", got=error, allowed=KINDS) from error
    raise CompareError(f"{path} is no result that is known", allowed=KINDS)


def _csv(path: Path, text: str) -> Side:
    rows = list(csv.DictReader(text.splitlines()))
    missing = [name for name in COLUMNS if any(row.get(name) is None for row in rows)]
    if missing or not rows:
        raise CompareError(
            f"{path}: columns are missing", got=", ".join(missing) or "no row", allowed=str(COLUMNS)
        )
    times = tuple(_csv_times(path, number, row) for number, row in enumerate(rows, 1))
    return Side(name=path.stem.removeprefix("performance_test_"), times=times)


def _csv_times(path: Path, number: int, row: Mapping[str, str]) -> CaseTimes:
    batch, num_in, num_out, _, first, after, *_ = COLUMNS
    try:
        return CaseTimes(
            batch_size=int(row[batch]),
            input_tokens=int(row[num_in]),
            output_tokens=int(row[num_out]),
            first_token_ms=float(row[first]),
            per_token_ms=float(row[after]),
        )
    except ValidationError as error:
        raise CompareError(f"{path}, row {number}: {first_problem(error)}") from error


def _ours(path: Path, document: Document) -> Side:
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
    for number, row in enumerate(result.rows):
        for key, spread in (
            ("forward_first_ms", row.forward_first_ms),
            ("forward_next_ms", row.forward_next_ms),
        ):
            _check_samples(path, f"rows.{number}.{key}.samples", spread)
    return Side(
        name=f"{result.name}, {result.device}",
        times=times,
        tests=tuple(speed_tests(result)),
        clocks={"mode": result.mode, "repeats": str(result.num_repeats)},
    )


def _check_samples(path: Path, where: str, spread: Spread) -> None:
    """Rates are made of every sample; a short time less another one may be below zero."""
    if not spread.samples or not all(sample >= LEAST_MS for sample in spread.samples):
        raise CompareError(
            f"{path}: {where}",
            got=min(spread.samples, default="none"),
            allowed="times above 0",
            next_step="bench again, with --mode detail",
        )


def _several(path: Path, _: Document) -> Side:
    raise CompareError(
        f"{path} has the results of several bundles", next_step="bench each of them by itself"
    )


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


Reader = Callable[[Path, Document], Side]
READERS: tuple[tuple[Callable[[Document], bool], Reader], ...] = (
    (_has_format("alpaca2-bench"), _ours),
    (_has_format("alpaca2-eval"), read_evaluation),
    (_rows_with("avg_ts"), _llama_bench),
    (_has_format("alpaca2-benches"), _several),
    (_rows_with("format"), _several),  # as an older version wrote them
    (is_classes, read_classes),  # result_0_classes_acc.json of atb_speed_sdk
)
