"""An emulated build machine and an emulated card: what only Huawei's programs and chips can tell is
not tested here."""

import os
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Make
from tests.emulator.atc import install_atc
from tests.emulator.device import Emulator

SETTINGS = ("cann_version", "fail_with", "fail_model", "layout_per_graph", "host_in_name")
Toolkit = Callable[..., None]


@pytest.fixture(scope="session")
def memoriser_checkpoint(tokenizer_model: Path, made_once: Callable[[str, Make], Path]) -> Path:
    """A model that knows sequences by heart; its heads of queries share keys and values."""
    from tests.ascend.memoriser import make_memoriser

    return made_once("memoriser", lambda folder: make_memoriser(folder, tokenizer_model))


@pytest.fixture(scope="package")
def package_patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def put_toolkit(directory: Path, patch: pytest.MonkeyPatch, **settings: object) -> None:
    """atc on the PATH, and the file by which a toolkit says its version."""
    (directory / "bin").mkdir(parents=True, exist_ok=True)
    install_atc(directory / "bin", **settings)
    info = directory / f"{platform.machine()}-linux" / "ascend_toolkit_install.info"
    info.parent.mkdir(exist_ok=True)
    kernels = directory / "opp/built-in/op_impl/ai_core/tbe/kernel/config"
    for series in ("ascend310p", "ascend910b"):
        (kernels / series).mkdir(parents=True, exist_ok=True)
    info.write_text(f"version={settings.get('cann_version', '8.5.0')}\n")
    patch.setenv("PATH", f"{directory / 'bin'}{os.pathsep}{os.environ['PATH']}")
    patch.setenv("ASCEND_HOME_PATH", str(directory))
    patch.setenv("ASCEND_CACHE_PATH", str(directory / "cache"))


@pytest.fixture
def toolkit(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Toolkit:
    """Puts a toolkit on the PATH: toolkit(cann_version=..., fail_with=...)."""
    directory = tmp_path_factory.mktemp("cann")
    return lambda **settings: put_toolkit(directory, monkeypatch, **settings)


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Emulator]]:
    """Puts a card in: card(soc_name=...). After the test nothing may be left on it."""
    cards: list[Emulator] = []

    def put_in(**settings: Any) -> Emulator:
        emulator = Emulator(**settings)
        emulator.install(monkeypatch)
        cards.append(emulator)
        return emulator

    yield put_in
    for emulator in cards:
        assert not emulator.violations
        assert not emulator.leaks()
        assert not emulator.freed_by_reset
