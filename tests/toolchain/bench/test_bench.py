"""Claims about `bench`: its cases, its columns, its arithmetic. None about how long things take."""

import csv
import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import pytest

from runtime.bundle.reader import load_bundle
from runtime.errors import ParameterError
from runtime.sessions import open_session
from runtime.sessions.base import Session
from runtime.text.sentencepiece_tokenizer import SentencePieceTokenizer
from toolchain.bench.csv_file import check_names
from toolchain.bench.grid import Case, Grid, case_pairs, power_pairs
from toolchain.bench.llama_bench import speed_tests
from toolchain.bench.measure import Runner
from toolchain.bench.result import BenchResult, Mode
from toolchain.bench.run import bench
from toolchain.bench.tables import markdown
from toolchain.bench.timed_session import TimedSession
from toolchain.errors import TargetError

# As in the original's performance test, letter by letter.
HEADER = (
    "batch_size,input_seq_len(Encoding),output_seq_len(Decoding),ResponseTime(s),"
    "forward_first_token_time(ms),forward_next_token_time(ms),pre_next_token_time(ms),"
    "post_next_token_time_post(ms)"
)
UNITS = ("_ms", "_s", "_bytes", "_percent", "_operations", "_per_s", "_per_token")
COUNTS = ("batch_size", "_tokens", "num_", "version")
SPREAD = ("median", "min", "max", "samples")  # the unit is in the key above


def measure(bundle: Path, grid: Grid, mode: Mode = "detail", repeats: int = 3) -> BenchResult:
    opened = load_bundle(bundle)
    cases, _ = grid.cases(opened.manifest.cache_len, opened.manifest.max_batch_size)
    return bench(opened, cases, model=bundle.name, mode=mode, repeats=repeats)


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from toolchain.cli import main; main()", "bench"]
        + [str(argument) for argument in arguments],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def result(bundles: Path) -> BenchResult:
    """Three batch sizes and two prompts in detail mode."""
    pairs = ((5, 4), (12, 6))
    return measure(bundles / "small-fp32", Grid(pairs=pairs, batch_sizes=(1, 2, 3)))


def test_the_grid_is_all_pairs_of_powers_of_two() -> None:
    pairs = power_pairs(5, 10)
    assert len(pairs) == 36
    assert pairs[:2] == ((32, 32), (32, 64))
    assert pairs[-1] == (1024, 1024)


def test_a_grid_leaves_out_what_is_too_long_and_a_named_case_is_refused() -> None:
    grid = Grid(pairs=((32, 9), (32, 10)))
    fitting, too_long = grid.cases(40, 1)
    # The last token of an answer needs no row of the cache.
    assert fitting == [Case(batch_size=1, input_tokens=32, output_tokens=9)]
    assert len(too_long) == 1
    named = Grid(pairs=grid.pairs, asked_for=True)
    with pytest.raises(ParameterError, match=r"32,10.*up to 41"):
        named.cases(40, 1)


@pytest.mark.parametrize("text", ["128", "128,x", "0,5", "128,1", "1,2,3", ""])
def test_a_case_that_is_no_pair_of_lengths_is_refused(text: str) -> None:
    with pytest.raises(ParameterError, match="--case"):
        case_pairs([text])


def test_more_sequences_than_slots_are_refused(bundles: Path) -> None:
    with pytest.raises(ParameterError, match=r"got 4; allowed: 1 to 3"):
        measure(bundles / "small-fp32", Grid(pairs=((4, 4),), batch_sizes=(4,)))


def test_an_exported_bundle_is_refused(bundles: Path) -> None:
    with pytest.raises(TargetError, match="toolchain compile"):
        measure(bundles / "talk-exported", Grid(pairs=((4, 4),)))


def test_results_that_could_not_be_told_apart_are_refused_before_measuring() -> None:
    with pytest.raises(ParameterError, match="same name"):
        check_names(["int4", "int4"], None)
    with pytest.raises(ParameterError, match="a directory"):
        check_names(["int4", "int8"], Path("both.csv"))
    check_names(["int4", "int8"], Path("both"))


def test_the_original_grid_goes_through_the_command_line(bundles: Path, tmp_path: Path) -> None:
    options = ("--min-exp", 2, "--max-exp", 5, "--repeats", 1, "--model-name", "alpaca2_7b")
    done = command(bundles / "talk-int4", *options, "--csv", tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    [file] = tmp_path.iterdir()
    assert file.name == "performance_test_alpaca2_7b_cpu_bs1.csv"
    text = file.read_text()
    assert text.splitlines()[0] == HEADER
    rows = list(csv.DictReader(text.splitlines()))
    lengths = [4, 8, 16, 32]
    asked = [(int(r["input_seq_len(Encoding)"]), int(r["output_seq_len(Decoding)"])) for r in rows]
    assert asked == [(i, o) for i in lengths for o in lengths]
    document = json.loads(done.stdout)
    assert document["format"] == "alpaca2-bench"
    assert document["version"] == 1
    for row, line in zip(document["rows"], rows, strict=True):
        first = row["forward_first_ms"]["median"]
        assert float(line["forward_first_token_time(ms)"]) == first > 0


def test_an_option_without_effect_and_cases_left_out_are_said(bundles: Path) -> None:
    done = command(
        bundles / "small-fp32", "--case", "4,4", "--min-exp", 2, "--repeats", 1, "--mode", "normal"
    )
    assert "have no effect" in done.stderr
    done = command(bundles / "small-fp32", "--min-exp", 5, "--max-exp", 6, "--repeats", 1)
    assert done.returncode == 1
    assert "longer than the bundle's cache; got 32,32" in done.stderr
    assert command(bundles / "small-fp32", "--mode", "fast").returncode == 2


def test_normal_mode_is_the_difference_of_two_runs(bundles: Path) -> None:
    result = measure(bundles / "small-fp32", Grid(pairs=((8, 9),)), mode="normal", repeats=4)
    [row] = result.rows
    assert row.pre_next_ms.samples == row.post_next_ms.samples == (0.0,) * 4
    totals = zip(
        row.forward_first_ms.samples,
        row.forward_next_ms.samples,
        row.response_s.samples,
        strict=True,
    )
    for first, after, response in totals:
        assert first + 8 * after == pytest.approx(1e3 * response)


def test_the_parts_of_a_run_add_up_to_it(result: BenchResult) -> None:
    for row in result.rows:
        steps = row.output_tokens - 1
        for i in range(result.num_repeats):
            parts = row.forward_first_ms.samples[i] + steps * sum(
                spread.samples[i]
                for spread in (row.pre_next_ms, row.forward_next_ms, row.post_next_ms)
            )
            assert 0 < parts <= 1e3 * row.response_s.samples[i]
            assert row.ttft_ms.samples[i] > row.tokenize_ms.samples[i]


class Copies(TimedSession):
    """Remembers which rows were copied where."""

    def __init__(self, inside: Session) -> None:
        super().__init__(inside)
        self.seen: list[tuple[int, int]] = []

    def copy_rows(self, source: int, target: int, num_rows: int) -> None:
        self.seen.append((target, num_rows))
        super().copy_rows(source, target, num_rows)


def test_a_warm_up_writes_to_every_slot(bundles: Path) -> None:
    """Untouched memory of a slot is cleared when a prompt first goes there, which takes longer."""
    bundle = load_bundle(bundles / "small-fp32")
    with closing(Copies(open_session(bundle))) as session:
        runner = Runner(session, SentencePieceTokenizer(bundle.file("tokenizer.model")))
        runner.warm_up(Case(batch_size=1, input_tokens=6, output_tokens=3))
        assert session.seen == [(slot, 8) for slot in range(1, 5)]


def test_every_batch_size_is_a_row_of_each_case(result: BenchResult) -> None:
    cases = [(row.batch_size, row.input_tokens, row.output_tokens) for row in result.rows]
    assert cases == [(batch, *pair) for batch in (1, 2, 3) for pair in ((5, 4), (12, 6))]


def test_the_roofline_follows_from_bytes_and_time(result: BenchResult) -> None:
    """Counted again from the model's shape: float32 weights but the embedding, and the cache."""
    model_bytes = 0
    hidden, inner, vocabulary, layers = 128, 352, 640, 4
    for outputs, inputs in [(hidden, hidden)] * 4 + [(inner, hidden)] * 2 + [(hidden, inner)]:
        model_bytes += layers * outputs * inputs * 4
    model_bytes += vocabulary * hidden * 4
    for row in result.rows:
        positions = row.input_tokens + row.output_tokens // 2
        moved = model_bytes + row.batch_size * 2 * layers * hidden * positions * 4
        assert row.decode.moved_bytes == moved
        assert row.bytes_per_token == moved / row.batch_size
        seconds = median(row.forward_next_ms.samples) / 1000
        percent = moved / seconds / row.bandwidth_bytes_per_s * 100
        assert row.decode.bandwidth_percent == pytest.approx(percent)
        # Two operations per weight and row, the head for one row alone; attention besides.
        weights = (model_bytes - vocabulary * hidden * 4) / 4
        least = row.batch_size * 2 * (weights * row.input_tokens + vocabulary * hidden)
        assert least < row.prefill.arithmetic_operations < 1.2 * least


def test_rates_are_those_of_llama_bench(result: BenchResult) -> None:
    prompt, answer, *_ = speed_tests(result)
    assert [prompt.test, answer.test] == ["pp5", "tg3 @ d5"]
    rates = [1000 * 5 / ms for ms in result.rows[0].forward_first_ms.samples]
    assert prompt.tokens_per_s == pytest.approx(mean(rates))
    assert prompt.deviation_tokens_per_s == pytest.approx(stdev(rates))
    assert [test.test for test in speed_tests(result)][-1] == "tg5 @ d12 x3"


def test_every_number_has_its_unit_in_its_key(result: BenchResult) -> None:
    def check(value: Any, key: str) -> None:
        if isinstance(value, dict):
            for name, inner in value.items():
                check(inner, key if name in SPREAD else name)
        elif isinstance(value, list):
            for inner in value:
                check(inner, key)
        elif not isinstance(value, str):
            assert key.endswith(UNITS) or any(count in key for count in COUNTS), key

    check(json.loads(result.model_dump_json()), "")


def test_a_result_comes_back_from_its_json(result: BenchResult) -> None:
    assert BenchResult.model_validate_json(result.model_dump_json()) == result


def test_markdown_has_a_line_for_every_case(result: BenchResult) -> None:
    text = markdown([result])
    assert text.count("| 3 x 12 in, 6 out |") == 4  # in each of our tables
    assert "| model | size | params | backend | threads | test | t/s |" in text
