"""Claims about benchmarks/long_context.py: what its table says of the times that it is given."""

import importlib
from types import ModuleType

import pytest

from tests.paths import ROOT


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    return importlib.import_module("long_context")


def test_a_prompt_counts_by_1024_tokens_and_a_ratio_is_taken_in_each_round(
    script: ModuleType,
) -> None:
    def engine(*rounds: list[float]) -> object:
        runs = {4096: [script.Run(length=4096, ms=ms) for ms in rounds]}
        return script.Engine(settings="", cache_bytes=4096, memory_mb={"peak": 1.0}, runs=runs)

    ours = engine([4000.0, 5.0, 7.0, 6.0], [2000.0, 3.0], [400.0, 1.0])
    theirs = engine([8000.0, 6.0], [6000.0, 12.0], [400.0, 2.0])
    _, _, first, second, times, *_ = script.markdown({"ours": ours, "theirs": theirs}, [4096])
    assert first == "| ours | 4.1 | 500.0 | 3.0 | 1 |"
    assert second == "| theirs | 4.1 | 1500.0 | 6.0 | 1 |"
    assert times == "| ours is as fast as theirs times |  | 2.00 | 2.00 |  |"
