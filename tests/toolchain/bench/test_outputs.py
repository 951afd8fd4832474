"""Claims about the files of `bench`: tried before, complete after every case, gone on from."""

import csv
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runtime.bundle.reader import load_bundle
from runtime.errors import ParameterError, UserError
from runtime.kernels.library import Kernels
from toolchain.bench.grid import Case, case_pairs, power_pairs
from toolchain.bench.measure import TimedRun
from toolchain.bench.outputs import Outputs
from toolchain.bench.pace import Pace
from toolchain.bench.result import BenchResult
from toolchain.bench.run import measure
from toolchain.bench.setup import setup_of
from toolchain.bench.tables import results_json
from toolchain.console import about

COMMAND = (sys.executable, "-c", "from toolchain.cli import main; main()", "bench")
CASES = [Case(batch_size=1, input_tokens=n, output_tokens=4) for n in (4, 6, 8)]
# The second takes long enough to be interrupted.
THREE = ("--case", "4,4", "--case", "8,300", "--case", "6,4", "--repeats", 5)


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False
    )


def interrupted(line: str, *arguments: object) -> str:
    """Runs the command until it says this, presses Ctrl-C, and gives what it said."""
    said = []
    with subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # A shell starts what runs in the background with the signal ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stderr is not None
        for said_line in process.stderr:
            said.append(said_line)
            if said_line.startswith(line):
                process.send_signal(signal.SIGINT)
                break
        said += process.stderr.readlines()
    assert process.returncode == 130, said
    return "".join(said)


def rows_of(file: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(file.read_bytes())["rows"]
    return rows


@pytest.fixture(scope="module")
def part(bundles: Path) -> BenchResult:
    """Two of three cases, as an interrupted run has them."""
    steps = measure(
        load_bundle(bundles / "small-fp32"), CASES, model="small", mode="detail", repeats=1
    )
    next(steps)
    result = next(steps)
    steps.close()
    return result


def test_results_come_case_by_case(part: BenchResult) -> None:
    assert [row.case for row in part.rows] == CASES[:2]


def test_what_was_measured_before_is_kept_to_the_last_digit(
    part: BenchResult, bundles: Path
) -> None:
    told: list[str] = []
    [result] = measure(
        load_bundle(bundles / "small-fp32"),
        CASES,
        model="small",
        mode="detail",
        repeats=1,
        earlier=part.rows,
        tell=lambda text, _: told.append(text),
    )
    assert [row.case for row in result.rows] == CASES
    assert result.rows[:2] == part.rows
    assert [text.partition(",")[0] for text in told] == [
        "warming up: 1 x 8",
        "case 3 of 3",
    ]


@pytest.mark.parametrize("options", [("--csv", "x.csv"), ("-o", "x.json"), ("--csv", "d/e")])
def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(
    options: tuple[str, str], bundles: Path, tmp_path: Path
) -> None:
    place = tmp_path / options[1]
    arguments = (bundles / "talk-int4", *THREE, options[0], place)
    said = interrupted("case 2 of 3", *arguments)
    assert "stopped after 1 of 3 cases; they are kept, and the same command goes on" in said
    for file in tmp_path.rglob("*.csv"):
        assert len(list(csv.DictReader(file.read_text().splitlines()))) == 1
    [document] = tmp_path.rglob("*.json")
    before = rows_of(document)
    done = command(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    assert "1 of 3 cases are taken over from an unfinished run" in done.stderr
    after = json.loads(done.stdout)["rows"]
    assert after[:1] == before
    assert len(after) == 3
    left = {file.name for file in tmp_path.rglob("*") if file.is_file()}
    names = {"--csv": {"x.csv", "performance_test_talk-int4_cpu_bs1.csv"}, "-o": {"x.json"}}
    assert left <= names[options[0]]
    again = command(*arguments)  # a complete run is measured again
    assert "taken over" not in again.stderr


def test_an_interrupted_report_has_its_pages_and_goes_on(bundles: Path, tmp_path: Path) -> None:
    bundle, options = bundles / "talk-int4", (*THREE, "--report", tmp_path)
    interrupted("case 2 of 3", bundle, *options)
    assert len(rows_of(tmp_path / "result.json")) == 1
    assert "1 x 4 in, 4 out" in (tmp_path / "report.html").read_text(encoding="utf-8")
    done = command(bundle, *options)
    assert "1 of 3 cases are taken over" in done.stderr
    assert len(rows_of(tmp_path / "result.json")) == 3


def test_of_several_bundles_a_complete_one_is_kept_too(bundles: Path, tmp_path: Path) -> None:
    file = tmp_path / "both.json"
    arguments = (bundles / "talk-int4", bundles / "talk-int8", *THREE, "-o", file)
    interrupted("talk-int8: case 2 of 3", *arguments)
    before = json.loads(file.read_bytes())
    assert (before["format"], before["version"]) == ("alpaca2-benches", 1)
    assert [len(result["rows"]) for result in before["results"]] == [3, 1]
    done = command(*arguments)
    assert "4 of 6 cases are taken over" in done.stderr
    after = json.loads(file.read_bytes())
    assert [len(result["rows"]) for result in after["results"]] == [3, 3]
    assert after["results"][0] == before["results"][0]


def test_another_setup_is_measured_again_and_why_is_said(
    part: BenchResult, bundles: Path, tmp_path: Path
) -> None:
    bundle, file = load_bundle(bundles / "small-fp32"), tmp_path / "x.json"
    outputs = Outputs(json_file=file)
    outputs.write([part])
    same = setup_of(bundle, "small", "detail", 1)
    assert outputs.earlier(same, CASES) == (part, "")
    assert outputs.earlier(same, CASES[2:]) == (None, "")
    for other in (
        same.model_copy(update={"num_repeats": 5}),
        same.model_copy(update={"mode": "normal"}),
        same.model_copy(update={"manifest_sha256": "0" * 64}),
        same.model_copy(update={"kernels": "avx9"}),
        same.model_copy(update={"machine": same.machine.model_copy(update={"num_cores": 99})}),
    ):
        [difference] = other.differences(same)
        words = f"{file} has another {difference}: measured again"
        assert outputs.earlier(other, CASES) == (None, words)


def test_a_result_says_which_kernels_of_ours_computed(bundles: Path, kernels: Kernels) -> None:
    own, other = (load_bundle(bundles / name) for name in ("talk-int4", "small-fp32"))
    assert setup_of(own, "talk", "detail", 1).kernels == kernels.instruction_sets[0]
    assert setup_of(other, "small", "detail", 1).kernels == ""


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "1", '{"results": 1}', '{"results": [1]}', "[" * 100_000, '{"rows": []}'],
)
def test_a_file_that_is_no_result_is_as_good_as_none(
    text: str, part: BenchResult, tmp_path: Path
) -> None:
    (tmp_path / "x.json").write_text(text)
    outputs = Outputs(json_file=tmp_path / "x.json")
    assert outputs.earlier(part.setup, CASES) == (None, "")


@pytest.mark.parametrize(
    ("option", "place"),
    [
        ("--csv", "nosuch/x.csv"),
        ("--csv", "file/x.csv"),
        ("--csv", "file/directory"),
        ("--csv", "directory.csv"),
        ("-o", "nosuch/x.json"),
        ("-o", "directory.csv"),
        ("--report", "file"),
        ("--report", "/proc/nosuch"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_before_anything_is_read(
    option: str, place: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "directory.csv").mkdir()
    done = command("no-bundle-there", option, tmp_path / place)
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot write ")


def test_a_disk_that_fills_up_ends_the_run_and_leaves_what_was_written(
    part: BenchResult, tmp_path: Path
) -> None:
    """/dev/full refuses every byte, as a full disk does."""
    Outputs(json_file=Path("/dev/full")).require()
    with pytest.raises(UserError, match="no space left on device; free some room"):
        Outputs(json_file=Path("/dev/full")).write([part])


@pytest.mark.parametrize(
    ("low", "high"), [(5, 21), (5, 99999999), (0, 5), (-1, 5), (9, 8), (5, 10**30)]
)
def test_exponents_have_an_upper_end(low: int, high: int) -> None:
    with pytest.raises(ParameterError, match="allowed: 1 to 20, in ascending order"):
        power_pairs(low, high)


@pytest.mark.parametrize("text", ["9" * 5000 + ",4", "4," + "9" * 5000, "12345678,4", "4,+5"])
def test_a_length_has_an_upper_end(text: str) -> None:
    with pytest.raises(ParameterError, match="--case") as caught:
        case_pairs([text])
    assert len(str(caught.value)) < 200


def timed(first: float, step: float) -> TimedRun:
    return TimedRun(
        ttft=0,
        tpot=0,
        gaps=(),
        response=0,
        forward_first=first,
        forward_next=step,
        pre_next=0,
        post_next=0,
        tokenize=0,
        sample=0,
        detokenize=0,
    )


def test_the_time_that_is_left_follows_from_what_was_run() -> None:
    """0.01 s per token of a prompt and 0.1 s per step: runs of 4, 5 and 6 s with their steps."""
    cases = [Case(batch_size=1, input_tokens=n, output_tokens=31) for n in (100, 200, 300)]
    pace = Pace(cases, repeats=2, mode="detail", num_earlier=1)
    assert pace.warming_up(cases[2]) == ("warming up: 1 x 300,31 tokens", 0.0)
    pace.learn(cases[2], timed(3.0, 0.1))
    assert pace.measuring(cases[0]) == ("case 2 of 4, about 30 s left: 1 x 100,31 tokens", 0.0)
    text, fraction = pace.measuring(cases[1])
    assert text == "case 3 of 4, about 22 s left: 1 x 200,31 tokens"
    assert fraction == pytest.approx(8 / 30)
    text, fraction = pace.measuring(cases[2])
    assert text == "case 4 of 4, about 12 s left: 1 x 300,31 tokens"
    assert fraction == pytest.approx(18 / 30)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "1 s"), (59, "59 s"), (120, "2 min"), (9000, "2.5 h")]
)
def test_a_time_is_said_as_a_person_would(seconds: float, text: str) -> None:
    assert about(seconds) == text


def test_one_bundle_is_one_document_and_several_are_one_too(part: BenchResult) -> None:
    assert json.loads(results_json([part]))["format"] == "alpaca2-bench"
    both = json.loads(results_json([part, part]))
    assert (both["format"], both["version"], len(both["results"])) == ("alpaca2-benches", 1, 2)
