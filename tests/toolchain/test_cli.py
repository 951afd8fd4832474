"""The command line, as a person or a script sees it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import DATA

COMMANDS = (
    "miniature",
    "export",
    "compile",
    "verify",
    "bench",
    "compare",
    "inspect",
    "doctor",
    "profiles",
)


def toolchain(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from toolchain.cli import main; main()", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def one_line_error(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 1
    assert result.stdout == ""
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert "Traceback" not in result.stderr
    return last


def test_help_lists_every_command() -> None:
    result = toolchain("--help")
    assert result.returncode == 0
    assert all(command in result.stdout for command in COMMANDS)


def test_wrong_usage_exits_2() -> None:
    assert toolchain("export").returncode == 2
    assert toolchain("distil").returncode == 2


def test_profiles_lists_cpu() -> None:
    result = toolchain("profiles")
    assert result.returncode == 0
    assert "cpu" in result.stdout


def test_inspect_prints_tables_or_the_manifest(bundles: Path) -> None:
    assert "decode_b3" in toolchain("inspect", bundles / "small-fp32").stdout
    manifest = json.loads(toolchain("inspect", bundles / "small-fp32", "--json").stdout)
    assert manifest["stage"] == "compiled"


def test_a_checkpoint_goes_through_export_compile_verify_and_bench(
    bundles: Path, tmp_path: Path
) -> None:
    model, exported, compiled = bundles / "checkpoint", tmp_path / "exported", tmp_path / "int8"
    done = toolchain("export", model, "-o", exported, "--profile", DATA / "talk.toml")
    assert done.returncode == 0, done.stderr
    assert "graph 3/3: decode_b1" in done.stderr
    done = toolchain("compile", exported, "-o", compiled, "--weights", "int8")
    assert done.returncode == 0, done.stderr
    report = tmp_path / "report.json"
    ids = model / "dialogue_ids.json"
    done = toolchain("verify", exported, compiled, "--model", model, "--ids", ids, "--json", report)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAIL" not in done.stdout
    document = json.loads(report.read_bytes())
    assert document["passed"] is True
    assert [stage["weights"] for stage in document["stages"]] == ["fp16", "int8"]
    done = toolchain("bench", compiled, "--repeats", 1, "--json")
    assert [row["input_tokens"] for row in json.loads(done.stdout)["rows"]] == [32, 128]


def test_verify_prints_one_json_document_and_exits_1_past_a_limit(
    bundles: Path, tmp_path: Path
) -> None:
    """The miniature has never seen these ids, so int4 moves its answers."""
    strange = tmp_path / "ids.json"
    strange.write_text(json.dumps([[1, *range(100, 140)]]))
    model, bundle = bundles / "checkpoint", bundles / "talk-int4"
    done = toolchain("verify", bundle, "--model", model, "--ids", strange, "--json", "-")
    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert document["passed"] is False
    assert "(limit " in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("export", "nowhere", "-o", "out"), "no such directory: nowhere"),
        (("export", "{checkpoint}", "-o", "out", "--profile", "gpu"), "got gpu"),
        (("compile", "nowhere", "-o", "out"), "no bundle at nowhere"),
        (("compile", "{small-exported}", "-o", "out", "--weights", "int5"), "got int5"),
        (("compile", "{small-exported}", "-o", "out", "--target", "tpu"), "got tpu"),
        (("inspect", "{checkpoint}"), "is not a bundle"),
        (("verify", "{small-fp32}", "--model", "nowhere"), "no such directory"),
        (("miniature", "{checkpoint}"), "checkpoint"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    arguments: tuple[str, ...], says: str, bundles: Path, tmp_path: Path
) -> None:
    filled = [
        str(bundles / argument.strip("{}")) if argument.startswith("{") else argument
        for argument in arguments
    ]
    filled = [str(tmp_path / "out") if argument == "out" else argument for argument in filled]
    assert says in one_line_error(toolchain(*filled))
    assert list(tmp_path.iterdir()) == []
