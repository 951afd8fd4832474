"""Tokens of short sequences run in graphs that read fewer rows of the same cache."""

from contextlib import closing
from pathlib import Path

import pytest

from runtime.bundle.reader import Bundle, load_bundle
from runtime.progress import SILENT
from runtime.sessions import open_session
from runtime.sessions.base import Chunk
from tests.ascend.conftest import Toolkit
from tests.ascend.test_answers import EXPECTED, answers
from tests.ascend.tokens import Card
from toolchain.choices import Choices
from toolchain.compiler import compile_bundle

LENGTHS = [64, 128]


def compiled(bundles: Path, output: Path, choices: Choices) -> Bundle:
    """The miniature, by a profile that asks for two graphs more."""
    exported = load_bundle(bundles / "talk-exported")
    profile = {**exported.manifest.profile, "short_caches": LENGTHS}
    asking = exported.manifest.model_copy(update={"profile": profile})
    return compile_bundle(Bundle(exported.path, asking), output, choices, progress=SILENT)


def shorter(bundle: Bundle) -> dict[str, list[int]]:
    """Cached rows of the shorter graphs of each graph that has some."""
    graphs = [graph for graph in bundle.manifest.graphs if graph.shorter]
    return {graph.spec.name: [each.spec.cache_len for each in graph.shorter] for graph in graphs}


@pytest.mark.parametrize("weights", ["fp16", "int8"])
def test_a_token_runs_on_the_shortest_cache_that_holds_its_rows(
    weights: str, bundles: Path, toolkit: Toolkit, card: Card, tmp_path: Path
) -> None:
    """It says what it says without, and sends and copies no more."""
    toolkit()
    compiled(bundles, tmp_path / "om", Choices(target="310p3", weights=weights))
    bundle = load_bundle(tmp_path / "om")
    assert shorter(bundle) == {"decode_b1": LENGTHS}
    [decode] = [graph for graph in bundle.manifest.graphs if graph.shorter]
    assert [each.cost < decode.cost for each in decode.shorter] == [True, True]
    emulator = card()
    assert answers(bundle) == EXPECTED
    vocab_size = bundle.manifest.model.vocab_size
    for start, name in (
        (0, "decode_b1_c64"),
        (64, "decode_b1_c64"),
        (65, "decode_b1_c128"),
        (128, "decode_b1_c128"),
        (129, "decode_b1"),
    ):
        with closing(open_session(bundle)) as session:
            emulator.reset_counters()
            session.run(decode, [Chunk(slot=0, start=start, token_ids=[7])])
            ran = [model for model in emulator.state.models.values() if model.session is not None]
            assert [model.label for model in ran] == [f"{name}.om"]
            assert emulator.transfers == {"H2D": 16, "D2H": 4 * vocab_size}


@pytest.mark.parametrize(
    ("choices", "cann"),
    [
        (Choices(target="310p3", weights="fp16", without=("rewrite_attention",)), "8.5.0"),
        (Choices(target="310p3", weights="fp16", without=("rows_first_cache",)), "8.5.0"),
        (Choices(target="310p3", weights="fp16"), "8.2.RC1"),
        (Choices(target="cpu", weights="fp32"), "8.5.0"),
    ],
    ids=["attention as exported", "heads first", "gears", "cpu"],
)
def test_where_rows_do_not_lie_whole_there_are_none(
    choices: Choices, cann: str, bundles: Path, toolkit: Toolkit, tmp_path: Path
) -> None:
    toolkit(cann_version=cann)
    assert shorter(compiled(bundles, tmp_path / "out", choices)) == {}
