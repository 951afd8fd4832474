"""A number hidden in a long text is found wherever it stands, by every way to run a model.

PASSKEY=8192 makes the text as long as that; `make passkey` does it.
"""

import os
from pathlib import Path

import pytest

from export.exporter import export_bundle
from profiles import load_profile
from runtime.bundle.manifest import GraphSpec
from runtime.bundle.reader import Bundle
from runtime.progress import SILENT
from tests.acceptance.agreement import greedy_tokens
from tests.acceptance.matrix import cpu, on
from tests.acceptance.passkey import NUMBER, hidden_at, make_seeker
from tests.acceptance.ways import Way, compiled, eager, opened
from toolchain.choices import Choices

CACHE_LEN = int(os.environ.get("PASSKEY", "512"))
DEPTHS = (0, 0.5, 1) if CACHE_LEN <= 512 else (0, 0.25, 0.5, 0.75, 1)
PROMPTS = [hidden_at(depth, CACHE_LEN - len(NUMBER)) for depth in DEPTHS]
FOUND = [NUMBER] * len(PROMPTS)
AIR = on("910b3", "fp16", "air")
COMPILED = Way(  # by AOTInductor, which takes longer than the rest of a short text
    name="torch-cpu fp32",
    spacings={},
    open=compiled(Choices(target="torch-cpu", weights="fp32")),
)
WAYS = (
    cpu("fp32", Choices(target="cpu", weights="fp32")),
    cpu("int8", Choices(target="cpu", weights="int8")),
    cpu("int4", Choices(target="cpu", weights="int4")),
    cpu("int4, int8 cache", Choices(target="cpu", weights="int4", kv_cache="int8")),
    Way(name="torch eager fp16", spacings={}, open=eager),
    *(on(target, weights, "onnx") for target in ("310p3", "910b3") for weights in ("fp16", "int8")),
    *([] if CACHE_LEN <= 512 else [COMPILED]),
)
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_torch_thread")]


def exported(folder: Path, **changes: object) -> Bundle:
    """The checkpoint in graphs of 128 rows and of one; changes go into its config.json."""
    make_seeker(folder / "model", **changes)
    graphs = (
        GraphSpec(phase="prefill", batch_size=1, seq_len=128, cache_len=CACHE_LEN),
        GraphSpec(phase="decode", batch_size=1, seq_len=1, cache_len=CACHE_LEN),
    )
    update = {"graphs": graphs, "short_caches": ()}
    profile = load_profile("310p3").model_copy(update=update)
    return export_bundle(folder / "model", profile, folder / "exported", SILENT)


def said(way: Way, bundle: Bundle, folder: Path) -> list[list[int]]:
    with opened(way, bundle, folder) as session:
        return greedy_tokens(session, PROMPTS, len(NUMBER))


@pytest.fixture(scope="module")
def seeker(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return exported(tmp_path_factory.mktemp("seeker"))


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_the_number_is_found_at_every_depth(way: Way, seeker: Bundle, tmp_path: Path) -> None:
    assert said(way, seeker, tmp_path / "out") == FOUND


def test_the_number_is_found_through_torchair(
    seeker: Bundle, torchair: Path, tmp_path: Path
) -> None:
    assert said(AIR, seeker, tmp_path / "out") == FOUND


def test_the_number_is_lost_where_positions_turn_otherwise(tmp_path: Path) -> None:
    """Half as quick, layer 0 looks two rows back: so finding it says something of positions."""
    half = exported(tmp_path, rope_scaling={"rope_type": "linear", "factor": 2.0})
    assert not any(answer == NUMBER for answer in said(WAYS[0], half, tmp_path / "out"))
