"""The tree obeys its own rules."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT

PACKAGES = ("toolchain", "export", "runtime", "profiles")
CONTRACT = (  # what export may see, or what that stands on
    "bundle",
    "console",
    "control_groups",
    "documents",
    "encodings",
    "errors",
    "json_file",
    "printable",
    "progress",
    "record",
    "result_files",
    "sampling",
    "text",
    "threads",
)
HEAVY = {"numpy", "onnxruntime", "sentencepiece", "torch", "onnx", "onnx_ir", "pydantic"}
# Tests of the whole, and what they stand on.
ACROSS = {
    "aarch64",
    "acceptance",
    "ascend",
    "box",
    "clients",
    "cluster",
    "emulator",
    "mutations",
}


def sources(*folders: str) -> list[Path]:
    return sorted(file for folder in folders for file in (ROOT / folder).rglob("*.py"))


def test_the_annotated_tree_shows_every_file_and_no_other() -> None:
    document = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    tree = document.split("<!-- tree -->")[1].split("```")[1]
    listed: set[str] = set()
    folders: list[str] = []
    for line in tree.strip().splitlines()[1:]:
        depth = (len(line) - len(line.lstrip())) // 2 - 1  # below the root
        name = line.split()[0]
        del folders[depth:]
        if name.endswith("/"):
            folders.append(name)
        else:
            listed.add("".join([*folders, name]))
    shipped = {
        file.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for file in (ROOT / package).rglob("*")
        if file.suffix in (".py", ".toml", ".txt", ".html", ".css", ".js", ".h", ".cpp")
        and file.name != "__init__.py"
    }
    listed = {name for name in listed if name.split("/")[0] in PACKAGES}
    assert listed == shipped


@pytest.mark.parametrize(
    "file", sources(*PACKAGES, "tests"), ids=lambda f: str(f.relative_to(ROOT))
)
def test_no_file_is_longer_than_300_lines(file: Path) -> None:
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 300


def test_no_function_is_longer_than_60_lines_without_its_docstring() -> None:
    long = []
    for file in sources(*PACKAGES):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                docstring = ast.get_docstring(node, clean=False) or ""
                assert node.end_lineno is not None
                length = node.end_lineno - node.lineno - docstring.count("\n")
                if length > 60:
                    long.append(f"{file.relative_to(ROOT)}:{node.name} {length}")
    assert not long


def test_folders_of_tests_mirror_the_tree() -> None:
    folders = {file.parent.relative_to(ROOT / "tests") for file in sources("tests")}
    own = {folder for folder in folders if folder.parts and folder.parts[0] not in ACROSS}
    assert not {folder.as_posix() for folder in own if not (ROOT / folder).is_dir()}


def test_every_module_says_what_it_is() -> None:
    silent = [
        file.relative_to(ROOT).as_posix()
        for file in sources(*PACKAGES)
        if not ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
    ]
    assert not silent


@pytest.mark.parametrize("module", ["runtime.cli", "toolchain.cli"])
def test_help_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.split()
    assert HEAVY.isdisjoint(loaded)


def test_the_import_contracts_name_every_part_of_runtime() -> None:
    """A new room of the runtime must be put under the contract that keeps export away from it."""
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    named = set(re.findall(r'"(runtime\.\w+)"', pyproject))
    contract = {f"runtime.{name}" for name in CONTRACT}
    parts = {f"runtime.{p.stem}" for p in (ROOT / "runtime").iterdir() if p.stem[0] != "_"}
    assert parts <= named | contract
