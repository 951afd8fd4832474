"""--json is a flag and -o a file, on every command; values outside the choices are wrong usage."""

import json
from pathlib import Path
from typing import get_args

import pytest

from tests.toolchain.test_cli import toolchain
from toolchain.options import TargetName
from toolchain.targets import TARGETS

DOCUMENTS = (
    (("plan", "{bundles}/checkpoint"), "alpaca2-plan"),
    (("profiles",), "alpaca2-profiles"),
    (("inspect", "{bundles}/talk-int4"), "alpaca2-bundle"),
    (("bundles", "{bundles}"), "alpaca2-bundles"),
    (("doctor",), "alpaca2-doctor"),
)


@pytest.mark.parametrize(("command", "kind"), DOCUMENTS, ids=lambda value: str(value[0]))
def test_the_document_on_stdout_and_in_a_file_is_one(
    command: tuple[str, ...], kind: str, bundles: Path, tmp_path: Path
) -> None:
    arguments = [part.format(bundles=bundles) for part in command]
    printed = toolchain(*arguments, "--json")
    file = tmp_path / "out.json"
    written = toolchain(*arguments, "-o", file)
    assert written.stdout == ""
    found = json.loads(printed.stdout)
    assert (found["format"], found["version"]) == (kind, 1)
    assert set(found) == set(json.loads(file.read_bytes()))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--weights", "int3"), "'int3' is not one of 'fp32', 'fp16', 'bf16', 'int8'"),
        (("--kv-cache", "int3"), "'int3' is not one of 'float', 'int8'"),
        (
            ("--target", "abacus"),
            "'abacus' is not one of 'cpu', 'torch-cpu', 'torch-cuda', '310p1'",
        ),
        (("--host-cpu", "z80"), "'z80' is not one of 'x86_64', 'aarch64'"),
    ],
)
def test_a_value_outside_the_choices_is_wrong_usage_and_lists_them(
    options: tuple[str, str], says: str, tmp_path: Path
) -> None:
    result = toolchain("compile", tmp_path, "-o", tmp_path / "out", *options)
    assert result.returncode == 2
    assert says in " ".join(result.stderr.replace("│", " ").split())


def test_every_target_is_a_choice() -> None:
    assert set(get_args(TargetName)) == set(TARGETS)
