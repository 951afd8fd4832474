"""The ways in which a bundle is run, and how far each may be from float32."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from runtime.bundle.reader import Bundle
from runtime.progress import SILENT
from runtime.sessions import Session, open_session
from tests.ascend.conftest import put_toolkit
from tests.ascend.tokens import SOC
from tests.emulator.device import Emulator
from toolchain.choices import Choices
from toolchain.compiler import compile_bundle
from toolchain.verify.eager import open_eager

__all__ = ["FLOAT", "LEVELS", "WAYS", "Way", "emulated", "opened"]

Compile = Callable[[Bundle, Path], Session]


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """spacings: for what a way is compared with, how far apart in float16 the two best logits may
    be where another token is said."""

    name: str
    spacings: Mapping[str, float]
    open: Compile
    soc_name: str | None = None  # of the chip that is emulated


def compiled(choices: Choices) -> Compile:
    """For a target, with what it needs installed."""

    def opened(exported: Bundle, output: Path) -> Session:
        return open_session(compile_bundle(exported, output, choices, progress=SILENT))

    return opened


def chip(name: str, choices: Choices, spacings: Mapping[str, float]) -> Way:
    """On the emulated chip."""
    soc_name = SOC[str(choices.target)]
    return Way(name=name, spacings=spacings, open=compiled(choices), soc_name=soc_name)


def eager(exported: Bundle, output: Path) -> Session:
    """The programs of an exported bundle, as they are."""
    return open_eager(exported)


# What is computed by ONNX Runtime in float32: the model, or its int8 weights as numbers.
FLOAT, LEVELS = "the model", "its int8 weights"
# float16 rounds every result of every layer, so that a logit may be off by a spacing or two.
HALF = {FLOAT: 2.0}
# Its weights are rounded to float16 besides. How much int8 costs is said, and not bounded here.
INT8 = {LEVELS: 3.0, FLOAT: math.inf}
WAYS: Final = (
    chip("310p3 fp16", Choices(target="310p3", weights="fp16"), HALF),
    chip("310p3 int8", Choices(target="310p3", weights="int8"), INT8),
    chip("910b3 fp16 via onnx", Choices(target="910b3", weights="fp16", via="onnx"), HALF),
    chip("910b3 int8 via onnx", Choices(target="910b3", weights="int8", via="onnx"), INT8),
    chip("910b3 fp16 via air", Choices(target="910b3", weights="fp16", via="air"), HALF),
    chip("910b3 int8 via air", Choices(target="910b3", weights="int8", via="air"), INT8),
    Way(name="torch eager fp16", spacings=HALF, open=eager),
    Way(
        name="torch-cpu fp32",
        spacings={FLOAT: 0.01},
        open=compiled(Choices(target="torch-cpu", weights="fp32")),
    ),
)


@contextmanager
def emulated(soc_name: str, directory: Path) -> Iterator[None]:
    """An emulated toolkit and card; nothing may be left on it."""
    with pytest.MonkeyPatch.context() as patch:
        put_toolkit(directory / "cann", patch)
        emulator = Emulator(soc_name)
        emulator.install(patch)
        yield
        assert not emulator.violations
        assert not emulator.leaks()


@contextmanager
def opened(way: Way, exported: Bundle, directory: Path) -> Iterator[Session]:
    """The session of a way over a bundle; whoever takes it closes it."""
    directory.mkdir()
    if way.soc_name is None:
        yield way.open(exported, directory / "compiled")
        return
    with emulated(way.soc_name, directory):
        yield way.open(exported, directory / "compiled")
