"""The command line, as a person or a script sees it."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from profiles import profile_names
from runtime.bundle.manifest import Manifest
from runtime.bundle.reader import load_bundle
from tests.paths import DATA, ROOT
from toolchain.cli import app

COMMANDS = sorted(
    file.stem.replace("_", "-")
    for file in (ROOT / "toolchain/commands").glob("*.py")
    if file.stem != "__init__"
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


def rows_of(shown: str) -> list[str]:
    """The first words of a table's rows."""
    return re.findall(r"^(?:│ | )(\w[\w-]*)  ", shown, re.MULTILINE)


def test_help_lists_every_module_of_commands_and_no_more() -> None:
    result = toolchain("--help")
    assert result.returncode == 0
    assert sorted(rows_of(result.stdout)) == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_its_own_help(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"], prog_name="toolchain")
    assert result.exit_code == 0
    assert f" Usage: toolchain {command} " in result.output


def test_wrong_usage_exits_2() -> None:
    assert toolchain("export").returncode == 2
    assert toolchain("distil").returncode == 2


def test_profiles_lists_those_that_ship_and_no_more() -> None:
    result = toolchain("profiles")
    assert result.returncode == 0
    assert rows_of(result.stdout) == ["name", *profile_names()]


def test_inspect_shows_every_graph_or_prints_the_manifest(bundles: Path) -> None:
    bundle = bundles / "small-fp32"
    manifest = load_bundle(bundle).manifest
    shown = rows_of(toolchain("inspect", bundle).stdout)
    assert shown[shown.index("graph") + 1 :] == [graph.spec.name for graph in manifest.graphs]
    printed = json.loads(toolchain("inspect", bundle, "--json").stdout)
    told = {name: printed.pop(name) for name in ("format", "version", "sha256")}
    assert told == {
        "format": "alpaca2-bundle",
        "version": 1,
        "sha256": hashlib.sha256((bundle / "manifest.json").read_bytes()).hexdigest(),
    }
    assert Manifest.model_validate_json(json.dumps(printed)) == manifest


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
    done = toolchain("verify", exported, compiled, "--model", model, "--ids", ids, "-o", report)
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(report.read_bytes())
    assert (document["format"], document["version"]) == ("alpaca2-verify", 1)
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
    done = toolchain("verify", bundle, "--model", model, "--ids", strange, "--json")
    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert document["passed"] is False
    assert "(limit " in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("export", "nowhere", "-o", "{out}"), "no such directory: nowhere;"),
        (
            ("export", "{checkpoint}", "-o", "{out}", "--profile", "gpu"),
            "no such profile; got gpu;",
        ),
        (("compile", "nowhere", "-o", "{out}"), "no bundle at nowhere;"),
        (
            ("compile", "{exported}", "-o", "{out}", "--weights", "fp16"),
            "target cpu has no such weights; got fp16;",
        ),
        (("inspect", "{checkpoint}"), "{checkpoint} is not a bundle;"),
        (("verify", "{exported}", "--model", "nowhere"), "no such directory: nowhere;"),
        (("miniature", "{checkpoint}"), "{checkpoint} is taken;"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    arguments: tuple[str, ...], says: str, bundles: Path, tmp_path: Path
) -> None:
    places = {
        "checkpoint": bundles / "checkpoint",
        "exported": bundles / "small-exported",
        "out": tmp_path / "out",
    }
    result = toolchain(*(argument.format(**places) for argument in arguments))
    assert one_line_error(result).startswith(f"error: {says.format(**places)}")
    assert list(tmp_path.iterdir()) == []
