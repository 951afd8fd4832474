"""A compiler and a card for models of GE operators."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.emulator.device import Emulator
from tests.emulator.samples import Atc

Compile = Callable[..., tuple[int, str]]


@pytest.fixture
def compile_air(atc: Atc) -> Compile:
    """atc with the options of an .air for a 910B."""

    def compiled(model: Path, settings: Any = None, **options: str) -> tuple[int, str]:
        usual = {"framework": "1", "soc_version": "Ascend910B3", "tiling_schedule_optimize": "1"}
        return atc(model, settings, **{**usual, **options})

    return compiled


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Emulator:
    emulator = Emulator("Ascend910B3", memory_bytes=64 * 2**20, reserved_bytes=2**20)
    emulator.install(monkeypatch)
    return emulator
