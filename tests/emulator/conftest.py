"""A compiler and a card for each test."""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.emulator.device import Emulator
from tests.emulator.samples import Atc


@pytest.fixture
def atc(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Atc:
    return Atc(tmp_path, capsys)


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Emulator:
    emulator = Emulator(memory_bytes=64 * 2**20, reserved_bytes=2**20)
    emulator.install(monkeypatch)
    return emulator


@pytest.fixture
def acl(emulator: Emulator) -> Iterator[ModuleType]:
    import acl

    assert acl.init() == 0
    assert acl.rt.set_device(0) == 0
    yield acl
    acl.rt.reset_device_force(0)
    acl.finalize()
