"""A prompt's first chunk runs in a graph without a cache, where the bundle has one."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from export.exporter import export_bundle
from profiles import load_profile
from runtime.bundle.manifest import GraphSpec
from runtime.bundle.reader import Bundle, load_bundle
from runtime.engine.engine import Engine
from runtime.progress import SILENT
from runtime.sessions import open_session
from tests.ascend.conftest import Toolkit
from tests.ascend.tokens import Card, assert_same_or_tied, greedy
from tests.paths import DATA
from toolchain.choices import Choices
from toolchain.cli import app
from toolchain.compiler import compile_bundle

FIRST = GraphSpec(phase="prefill", batch_size=1, seq_len=8, cache_len=0)


@pytest.fixture(scope="module")
def exported(bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    small = load_profile(str(DATA / "small.toml"))
    profile = small.model_copy(update={"graphs": (*small.graphs, FIRST)})
    output = tmp_path_factory.mktemp("first_chunk") / "exported"
    return export_bundle(bundles / "checkpoint", profile, output, SILENT)


def graph_names(engine: Engine, prompt: Sequence[int], known: Sequence[int]) -> list[str]:
    """Graphs that a prompt runs after what a slot holds."""
    with engine.slot(prompt) as slot:
        slot.truncate(0)
        slot.append(known)
        return [part.graph.spec.name for part in engine.parts(slot, prompt)]


def test_only_what_starts_a_prompt_takes_no_cache(exported: Bundle) -> None:
    prompt = list(range(5, 21))
    with closing(open_session(exported)) as session:
        engine = Engine(session)
        assert graph_names(engine, prompt, []) == ["prefill_s8_c0", "prefill_s8"]
        assert graph_names(engine, prompt, prompt[:8]) == ["prefill_s8"]
        assert graph_names(engine, prompt[:3], []) == ["prefill_s4"]  # there is none of 4 rows


def test_the_chip_says_what_the_cpu_says(
    exported: Bundle, bundles: Path, toolkit: Toolkit, card: Card, tmp_path: Path
) -> None:
    toolkit()
    choices = Choices(target="310p3", weights="fp16")
    bundle = compile_bundle(exported, tmp_path / "om", choices, progress=SILENT)
    card()
    prompts = [[5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15], [21, 22], list(range(40, 61))]
    expected = greedy(load_bundle(bundles / "small-fp32"), prompts, 12)
    on_cpu = load_bundle(bundles / "small-fp32")
    assert_same_or_tied(on_cpu, prompts, greedy(bundle, prompts, 12), expected)


def test_on_a_cpu_the_graph_is_left_out_and_compile_says_so(
    exported: Bundle, tmp_path: Path
) -> None:
    """There one graph takes every chunk. It had the cache of the others and could not be opened."""
    command = ["compile", str(exported.path), "-o", str(tmp_path / "cpu"), "--weights", "fp32"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0
    assert "left out: prefill_s8_c0; cpu runs graphs with a cache" in done.stderr
    names = [graph.spec.name for graph in load_bundle(tmp_path / "cpu").manifest.graphs]
    assert names == [g.spec.name for g in exported.manifest.graphs if g.spec.cache_len]
