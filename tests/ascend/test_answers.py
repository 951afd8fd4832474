"""The whole way against the emulator: the miniature says its dialogues word for word."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from export.miniature import DIALOGUES
from runtime.bundle.reader import TOKENIZER, Bundle, load_bundle
from runtime.completion import complete
from runtime.engine.engine import Engine
from runtime.engine.scheduler import Scheduler
from runtime.progress import SILENT
from runtime.sampling.params import SamplingParams
from runtime.sessions import open_session
from runtime.text.sentencepiece_tokenizer import SentencePieceTokenizer
from runtime.text.template import Message
from tests.ascend.conftest import Toolkit
from tests.ascend.tokens import SOC, Card, assert_shares_all
from toolchain.choices import Choices
from toolchain.compiler import compile_bundle

EXPECTED = [answer for dialogue in DIALOGUES for _, answer in dialogue]


def answers(bundle: Bundle) -> list[str]:
    """What the bundle says in every dialogue of the miniature, turn by turn."""
    tokenizer = SentencePieceTokenizer(bundle.file(TOKENIZER))
    params = SamplingParams(stop_token_ids=(tokenizer.eos_token_id,))
    said = []
    with closing(open_session(bundle)) as session:
        scheduler = Scheduler(Engine(session))
        for dialogue in DIALOGUES:
            messages: list[Message] = []
            for question, answer in dialogue:
                messages.append(Message(role="user", content=question))
                said.append(complete(scheduler, tokenizer, messages, params).text)
                messages.append(Message(role="assistant", content=answer))
    return said


@pytest.mark.parametrize("target", SOC)
@pytest.mark.parametrize("weights", ["fp16", "int8"])
def test_the_miniature_talks_word_for_word(
    target: str, weights: str, bundles: Path, toolkit: Toolkit, card: Card, tmp_path: Path
) -> None:
    toolkit()
    exported = load_bundle(bundles / "talk-exported")
    bundle = compile_bundle(
        exported,
        tmp_path / "om",
        Choices(target=target, weights=weights, via="onnx"),
        progress=SILENT,
    )
    assert_shares_all(bundle)
    card(soc_name=SOC[target])
    assert answers(load_bundle(bundle.path)) == EXPECTED


@pytest.mark.parametrize(
    "without",
    [
        ("rewrite_attention",),
        ("rows_first_cache",),
        ("npu_rotary_mul", "join_products", "npu_rms_norm"),
        ("start_input",),
    ],
)
def test_without_a_pass_it_talks_the_same(
    without: tuple[str, ...], bundles: Path, toolkit: Toolkit, card: Card, tmp_path: Path
) -> None:
    toolkit()
    exported = load_bundle(bundles / "talk-exported")
    bundle = compile_bundle(
        exported,
        tmp_path / "om",
        Choices(target="310p3", weights="fp16", without=without),
        progress=SILENT,
    )
    assert bundle.manifest.device is not None
    layout = "HND" if "rows_first_cache" in without else "NHD"
    assert bundle.manifest.device.cache_layout == layout
    assert bundle.manifest.device.cache_write == "session"
    card()
    assert answers(bundle) == EXPECTED


@pytest.mark.parametrize("weights", ["fp16", "int8"])
def test_an_old_cann_gets_one_model_in_gears_and_talks_the_same(
    weights: str, bundles: Path, toolkit: Toolkit, card: Card, tmp_path: Path
) -> None:
    toolkit(cann_version="8.2.RC1")
    exported = load_bundle(bundles / "talk-exported")
    bundle = compile_bundle(
        exported, tmp_path / "om", Choices(target="310p3", weights=weights), progress=SILENT
    )
    assert {graph.path for graph in bundle.manifest.graphs} == {"graphs/decoder.om"}
    assert [graph.spec.name for graph in bundle.manifest.graphs] == ["prefill_s64", "decode_b1"]
    assert_shares_all(bundle)
    card(cann="8.2.RC1", external_weight_api=False)
    assert answers(bundle) == EXPECTED


def test_levels_with_a_scale_for_every_group_talk_the_same(
    bundles: Path, toolkit: Toolkit, card: Card, tmp_path: Path
) -> None:
    toolkit()
    exported = load_bundle(bundles / "talk-exported")
    changes = {"target": "310p3", "weights": "int8", "block_size": 64}
    profile = {**exported.manifest.profile, **changes}
    manifest = exported.manifest.model_copy(update={"profile": profile})
    bundle = compile_bundle(replace(exported, manifest=manifest), tmp_path / "om", progress=SILENT)
    card()
    assert answers(bundle) == EXPECTED
