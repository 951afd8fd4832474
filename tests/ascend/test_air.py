"""The whole way through Huawei's torchair, against the emulated ATC and card of a 910B3.

Every test here needs the wheel: `make air-test` brings it.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from export.exporter import export_bundle
from profiles import load_profile
from runtime.bundle.reader import Bundle, load_bundle
from runtime.progress import SILENT
from tests.ascend.conftest import Toolkit, put_toolkit
from tests.ascend.test_answers import EXPECTED, answers
from tests.ascend.tokens import Card, assert_same_or_tied, greedy
from tests.paths import DATA
from toolchain.choices import Choices
from toolchain.compiler import compile_bundle

MASK_BYTES = 2048 * 2048  # what hides later rows from many new ones: in prefill and score alone
Compiled = Callable[[str, str], Bundle]


@pytest.fixture(scope="module")
def compiled(torchair: Path, bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """Gives a bundle of tests.bundles compiled with these weights, each made once."""
    made: dict[tuple[str, str], Bundle] = {}

    def get(name: str, weights: str) -> Bundle:
        if (name, weights) not in made:
            folder = tmp_path_factory.mktemp("air")
            exported = load_bundle(bundles / f"{name}-exported")
            choices = Choices(target="910b3", weights=weights)
            with pytest.MonkeyPatch.context() as patch:
                put_toolkit(folder / "cann", patch)
                bundle = compile_bundle(exported, folder / "om", choices, progress=SILENT)
            made[name, weights] = load_bundle(bundle.path)
        return made[name, weights]

    return get


@pytest.mark.parametrize("weights", ["fp16", "int8"])
def test_the_miniature_talks_word_for_word(weights: str, compiled: Compiled, card: Card) -> None:
    bundle = compiled("talk", weights)
    card(soc_name="Ascend910B3")
    assert answers(bundle) == EXPECTED


def test_the_bundle_says_that_its_graphs_write_the_cache_and_how(compiled: Compiled) -> None:
    manifest = compiled("talk", "fp16").manifest
    assert manifest.device is not None
    assert (manifest.device.cache_write, manifest.device.cache_layout) == ("graph", "NHD")
    by_name = {graph.spec.name: graph for graph in manifest.graphs}
    names = {name: [spec.name for spec in graph.inputs] for name, graph in by_name.items()}
    caches = [f"past_{kind}.{i}" for i in range(4) for kind in ("key", "value")]
    assert names["decode_b1"] == ["input_ids", "start", "lengths", *caches]
    assert names["prefill_s64"] == ["input_ids", "start", "logit_rows", *caches]
    assert names["score_s64"] == ["input_ids", "start", *caches]
    assert {spec.shape for spec in by_name["decode_b1"].inputs[3:]} == {(1, 384 + 64, 4, 32)}
    assert all([spec.name for spec in graph.outputs] == ["logits"] for graph in by_name.values())


@pytest.mark.parametrize("weights", ["fp16", "int8"])
def test_all_graphs_share_every_weight(weights: str, compiled: Compiled) -> None:
    """Besides the mask, and the few bytes of the constants of a graph's shapes."""
    manifest = compiled("talk", weights).manifest
    sets = [set(graph.weights) for graph in manifest.graphs]
    shared: set[str] = set.intersection(*sets)
    own = {name for names in sets for name in names} - shared
    sizes = [manifest.files[name].size for name in own]
    assert [size for size in sizes if size > 1000] == [MASK_BYTES]


def test_it_says_what_float32_says_where_float16_can_tell(
    compiled: Compiled, bundles: Path, card: Card
) -> None:
    bundle, on_cpu = compiled("talk", "fp16"), load_bundle(bundles / "talk-fp32")
    prompts = [[5, 6, 7, 8, 9], [11, 12], [*range(21, 60)]]
    card(soc_name="Ascend910B3")
    ours, theirs = greedy(bundle, prompts, 24), greedy(on_cpu, prompts, 24)
    assert_same_or_tied(on_cpu, prompts, ours, theirs)


def test_a_trained_model_says_what_float32_says(
    torchair: Path, shared_data: Path, card: Card, toolkit: Toolkit, tmp_path: Path
) -> None:
    """20 prompts from the start and from the middle of documents, 64 tokens each."""
    toolkit()
    profile = load_profile(str(DATA / "talk.toml"))
    exported = export_bundle(shared_data / "alpaca2-mini", profile, tmp_path / "exported", SILENT)
    fp32, fp16 = Choices(weights="fp32"), Choices(target="910b3", weights="fp16")
    on_cpu = compile_bundle(exported, tmp_path / "fp32", fp32, progress=SILENT)
    bundle = compile_bundle(exported, tmp_path / "om", fp16, progress=SILENT)
    documents = json.loads((shared_data / "alpaca2-mini/held_out_ids.json").read_text())
    long = [ids for ids in documents if len(ids) > 60][:10]
    prompts = [*(ids[:48] for ids in long), *(ids[len(ids) // 2 :][:24] for ids in long)]
    card(soc_name="Ascend910B3")
    ours, theirs = greedy(bundle, prompts, 64), greedy(on_cpu, prompts, 64)
    assert len(ours) == 20
    assert sum(said == expected for said, expected in zip(ours, theirs, strict=True)) >= 16
    assert_same_or_tied(on_cpu, prompts, ours, theirs)


def test_logs_of_torchair_and_atc_stay_beside_the_bundle(compiled: Compiled) -> None:
    bundle = compiled("talk", "fp16")
    logs = {file.name for file in bundle.path.with_name("om.logs").iterdir()}
    assert {"torchair.log", "decode_b1.log", "decode_b1.json.log"} <= logs
