"""The whole way against the emulator: export -> ATC -> pyACL gives the CPU's tokens."""

import json
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from export.exporter import export_bundle
from profiles import load_profile
from runtime.bundle.reader import Bundle, load_bundle
from runtime.engine.engine import Engine
from runtime.progress import SILENT
from runtime.sessions import open_session
from tests.ascend.conftest import Toolkit
from tests.ascend.memoriser import SEQUENCES
from tests.ascend.tokens import SOC, Card, assert_same_or_tied, assert_shares_all, greedy
from tests.paths import DATA
from toolchain.choices import Choices
from toolchain.compiler import compile_bundle

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def memoriser(memoriser_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """In graphs of 8, 4 and 1 rows."""
    output = tmp_path_factory.mktemp("memoriser") / "exported"
    profile = load_profile(str(DATA / "small.toml"))
    return export_bundle(memoriser_checkpoint, profile, output, SILENT)


@pytest.mark.parametrize("target", ["cpu", *SOC])
def test_what_a_model_knows_by_heart_is_said_on_every_target(
    target: str, memoriser: Bundle, toolkit: Toolkit, card: Card, tmp_path: Path
) -> None:
    """Prompts of a graph and a bit; the heads of keys and values are shared by two of queries."""
    toolkit()
    choices = Choices(target="cpu", weights="fp32")
    if target != "cpu":
        choices = Choices(target=target, weights="fp16", via="onnx")
    bundle = compile_bundle(memoriser, tmp_path / "out", choices, progress=SILENT)
    card(soc_name=SOC.get(target, "Ascend310P3"))
    prompts = [ids[:11] for ids in SEQUENCES]
    assert greedy(bundle, prompts, 29) == [ids[11:] for ids in SEQUENCES]


@pytest.fixture(scope="module")
def mini(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The small trained checkpoint with the real tokenizer, in graphs of 64 and 1 rows."""
    output = tmp_path_factory.mktemp("mini") / "exported"
    profile = load_profile(str(DATA / "talk.toml"))
    return export_bundle(shared_data / "alpaca2-mini", profile, output, SILENT)


@pytest.fixture(scope="module")
def documents(shared_data: Path) -> list[list[int]]:
    ids: list[list[int]] = json.loads((shared_data / "alpaca2-mini/held_out_ids.json").read_text())
    return ids


@pytest.fixture(scope="module")
def on_cpu(mini: Bundle) -> Bundle:
    return compile_bundle(mini, mini.path.parent / "fp32", Choices(weights="fp32"), progress=SILENT)


@pytest.mark.parametrize("target", SOC)
def test_a_trained_model_generates_the_tokens_of_the_cpu(
    target: str,
    mini: Bundle,
    on_cpu: Bundle,
    documents: list[list[int]],
    toolkit: Toolkit,
    card: Card,
    tmp_path: Path,
) -> None:
    toolkit()
    bundle = compile_bundle(
        mini, tmp_path / "om", Choices(target=target, weights="fp16", via="onnx"), progress=SILENT
    )
    assert_shares_all(bundle)
    card(soc_name=SOC[target])
    prompts = [ids[:48] for ids in documents if len(ids) >= 48][:20]
    prompts = prompts[:10] if target == "310p3" else prompts[10:]
    expected = greedy(on_cpu, prompts, 64)
    assert len({tuple(said) for said in expected}) == 10  # ten different answers
    assert greedy(load_bundle(bundle.path), prompts, 64) == expected


def test_where_it_says_another_token_float16_cannot_tell_the_two_apart(
    mini: Bundle,
    on_cpu: Bundle,
    documents: list[list[int]],
    toolkit: Toolkit,
    card: Card,
    tmp_path: Path,
) -> None:
    """From the middle of a document the model is less sure: the logits of the LM head are float16
    on the chip, and where the best two are closer than its spacing, either may be chosen. Of these
    prompts the second goes its own way, at the eighth token."""
    toolkit()
    bundle = compile_bundle(
        mini, tmp_path / "om", Choices(target="310p3", weights="fp16"), progress=SILENT
    )
    card()
    prompts = [ids[len(ids) // 2 :][:24] for ids in documents if len(ids) > 60][:4]
    ours, theirs = greedy(bundle, prompts, 64), greedy(on_cpu, prompts, 64)
    assert_same_or_tied(on_cpu, prompts, ours, theirs)


@pytest.mark.parametrize("target", SOC)
def test_the_miniature_generates_the_tokens_of_the_cpu(
    target: str, bundles: Path, toolkit: Toolkit, card: Card, tmp_path: Path
) -> None:
    """From the beginning and from the middle of its dialogues, and on behind their end. There it
    says what it has not learnt, and a few of 20 go their own way from the fiftieth token on."""
    toolkit()
    exported = load_bundle(bundles / "talk-exported")
    bundle = compile_bundle(
        exported,
        tmp_path / "om",
        Choices(target=target, weights="fp16", via="onnx"),
        progress=SILENT,
    )
    dialogues = json.loads((bundles / "checkpoint" / "dialogue_ids.json").read_text())
    prompts = [ids[: len(ids) * part // 8] for part in (7, 6) for ids in dialogues][:20]
    assert len({tuple(prompt) for prompt in prompts}) == 20
    card(soc_name=SOC[target])
    on_cpu = load_bundle(bundles / "talk-fp32")
    ours, theirs = greedy(bundle, prompts, 64), greedy(on_cpu, prompts, 64)
    assert [said[:40] for said in ours] == [expected[:40] for expected in theirs]
    assert sum(said == expected for said, expected in zip(ours, theirs, strict=True)) >= 15
    assert_same_or_tied(on_cpu, prompts, ours, theirs)


def test_several_sequences_at_once_give_the_tokens_of_each_alone(
    bundles: Path, toolkit: Toolkit, card: Card, tmp_path: Path
) -> None:
    toolkit()
    exported = load_bundle(bundles / "small-exported")
    choices = Choices(target="910b3", weights="fp16", via="onnx")
    bundle = compile_bundle(exported, tmp_path / "om", choices, progress=SILENT)
    card(soc_name="Ascend910B3")
    prompts = [[5, 6, 7, 8, 9], [11, 12], [21, 22, 23, 24, 25, 26, 27, 28, 29]]
    alone = greedy(bundle, prompts, 12)
    with closing(open_session(bundle)) as session:
        engine = Engine(session)
        with ExitStack() as stack:
            slots = [stack.enter_context(engine.slot(prompt)) for prompt in prompts]
            tokens = [
                [int(engine.prefill(slot, prompt).argmax())]
                for slot, prompt in zip(slots, prompts, strict=True)
            ]
            for _ in range(11):
                logits = engine.decode(slots, [said[-1] for said in tokens])
                for said, row in zip(tokens, logits, strict=True):
                    said.append(int(row.argmax()))
    assert tokens == alone


def test_a_shared_prefix_is_copied_on_the_device(
    bundles: Path, toolkit: Toolkit, card: Card, tmp_path: Path
) -> None:
    toolkit()
    exported = load_bundle(bundles / "small-exported")
    choices = Choices(target="310p3", weights="fp16")
    bundle = compile_bundle(exported, tmp_path / "om", choices, progress=SILENT)
    emulator = card()
    prompt = [5, 6, 7, 8, 9, 10, 11, 12]
    with closing(open_session(bundle)) as session:
        engine = Engine(session)
        with engine.slot(prompt) as first:
            before = engine.prefill(first, prompt)
            emulator.reset_counters()
            with engine.slot([*prompt[:6], 30, 31]) as second:
                assert second.length == 6
                model = bundle.manifest.model
                row = 2 * model.num_hidden_layers * model.num_key_value_heads * model.head_dim * 2
                assert emulator.transfers == {"D2D": 6 * row}
                assert (engine.prefill(second, prompt) == before).all()
