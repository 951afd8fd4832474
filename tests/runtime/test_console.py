"""Claims about what both command lines share."""

import sys
from collections.abc import Callable
from importlib.metadata import version

import pytest

import runtime.cli
import toolchain.cli

MAINS = {"runtime": runtime.cli.main, "toolchain": toolchain.cli.main}


@pytest.fixture(params=MAINS)
def run(
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., tuple[object, str, str]]:
    def run(*arguments: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", [request.param, *arguments])
        with pytest.raises(SystemExit) as ending:
            MAINS[request.param]()
        return ending.value.code or 0, *capsys.readouterr()

    return run


Run = Callable[..., tuple[object, str, str]]


def test_version_is_one_line_with_the_package(run: Run) -> None:
    assert run("--version") == (0, f"alpaca2-toolchain {version('alpaca2-toolchain')}\n", "")


def test_h_is_short_for_help_everywhere(run: Run, request: pytest.FixtureRequest) -> None:
    code, text, _ = run("-h")
    assert (code, text) == run("--help")[:2]
    assert "Usage:" in text
    command = {"runtime": "chat", "toolchain": "plan"}[request.node.callspec.params["run"]]
    assert run(command, "-h") == run(command, "--help")
