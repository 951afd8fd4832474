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
def test_a_sequence_runs_on_the_shortest_cache_that_holds_its_rows(
    weights: str, bundles: Path, toolkit: Toolkit, card: Card, tmp_path: Path
) -> None:
    """It says what it says without; a token sends and copies no more."""
    toolkit()
    compiled(bundles, tmp_path / "om", Choices(target="310p3", weights=weights))
    bundle = load_bundle(tmp_path / "om")
    prefill = [name for name in shorter(bundle) if name.startswith("prefill")]
    assert shorter(bundle) == dict.fromkeys([*prefill, "decode_b1"], LENGTHS)
    assert prefill
    emulator = card()
    assert answers(bundle) == EXPECTED
    vocab_size = bundle.manifest.model.vocab_size
    for graph in bundle.manifest.graphs:
        if not graph.shorter:
            continue
        name, rows = graph.spec.name, graph.spec.seq_len
        assert [each.cost < graph.cost for each in graph.shorter] == [True, True]
        alone = graph.model_copy(update={"shorter": ()})  # as verify asks for it
        for asked, start, ran in (
            (alone, 0, name),
            (graph, 0, f"{name}_c64"),
            (graph, 64, f"{name}_c64"),
            (graph, 65, f"{name}_c128"),
            (graph, 128, f"{name}_c128"),
            (graph, 129, name),
        ):
            with closing(open_session(bundle)) as session:
                emulator.reset_counters()
                session.run(asked, [Chunk(slot=0, start=start, token_ids=[7])])
                models = emulator.state.models.values()
                assert [each.label for each in models if each.session is not None] == [f"{ran}.om"]
                # Ids, start, and for a prompt which row's logits are wanted.
                sent = 8 * (rows + 1 + (rows > 1))
                assert emulator.transfers == {"H2D": sent, "D2H": 4 * vocab_size}


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
