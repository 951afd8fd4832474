"""The whole way against the emulator: export -> ATC -> pyACL gives the CPU's tokens."""

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from export.exporter import export_bundle
from export.miniature import DIALOGUES
from profiles import load_profile
from runtime.bundle.reader import TOKENIZER, Bundle, load_bundle
from runtime.completion import complete
from runtime.engine.engine import Engine
from runtime.engine.generate import generate
from runtime.engine.kv_cache import common_prefix
from runtime.sampling.params import SamplingParams
from runtime.sessions import open_session
from runtime.text.template import Message
from runtime.text.tokenizer import Tokenizer
from tests.ascend.conftest import Toolkit
from tests.ascend.memoriser import SEQUENCES, make_memoriser
from tests.bundles import silent
from tests.emulator.device import Emulator
from tests.paths import DATA
from toolchain.choices import Choices
from toolchain.compiler import compile_bundle

SOC = {"310p3": "Ascend310P3", "910b3": "Ascend910B3"}
Card = Callable[..., Emulator]


def greedy(bundle: Bundle, prompts: Sequence[list[int]], num_tokens: int) -> list[list[int]]:
    params = SamplingParams(max_tokens=num_tokens, ignore_eos=True)
    with closing(open_session(bundle)) as session:
        engine = Engine(session)
        return [[token.id for token in generate(engine, prompt, params)] for prompt in prompts]


def answers(bundle: Bundle) -> list[str]:
    """What the bundle says in every dialogue of the miniature, turn by turn."""
    tokenizer = Tokenizer(bundle.file(TOKENIZER))
    params = SamplingParams(stop_token_ids=(tokenizer.eos_token_id,))
    said = []
    with closing(open_session(bundle)) as session:
        engine = Engine(session)
        for dialogue in DIALOGUES:
            messages: list[Message] = []
            for question, answer in dialogue:
                messages.append(Message(role="user", content=question))
                said.append(complete(engine, tokenizer, messages, params).text)
                messages.append(Message(role="assistant", content=answer))
    return said


EXPECTED = [answer for dialogue in DIALOGUES for _, answer in dialogue]


def assert_shares_all(bundle: Bundle) -> None:
    """Counted anew from the files: what prefill and decode both take, of all that any takes."""
    sets = [set(graph.weights) for graph in bundle.manifest.graphs]
    sizes = {name: bundle.manifest.files[name].size for name in set.union(*sets)}
    shared = sum(sizes[name] for name in set.intersection(*sets))
    device = bundle.manifest.device
    assert device is not None
    assert (device.weight_bytes, device.shared_bytes) == (sum(sizes.values()), shared)
    assert shared >= 0.99 * sum(sizes.values())


@pytest.fixture(scope="module")
def memoriser(miniature_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A model that knows sequences by heart, in graphs of 8, 4 and 1 rows."""
    directory = tmp_path_factory.mktemp("memoriser")
    make_memoriser(directory / "model", miniature_dir / "tokenizer.model")
    profile = load_profile(str(DATA / "small.toml"))
    return export_bundle(directory / "model", profile, directory / "exported", silent)


@pytest.mark.parametrize("target", ["cpu", *SOC])
def test_what_a_model_knows_by_heart_is_said_on_every_target(
    target: str, memoriser: Bundle, toolkit: Toolkit, card: Card, tmp_path: Path
) -> None:
    """Prompts of a graph and a bit; the heads of keys and values are shared by two of queries."""
    toolkit()
    choices = Choices(target=target, weights="fp32" if target == "cpu" else "fp16")
    bundle = compile_bundle(memoriser, tmp_path / "out", choices, progress=silent)
    card(soc_name=SOC.get(target, "Ascend310P3"))
    prompts = [ids[:11] for ids in SEQUENCES]
    assert greedy(bundle, prompts, 29) == [ids[11:] for ids in SEQUENCES]


@pytest.fixture(scope="module")
def mini(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The small trained checkpoint with the real tokenizer, in graphs of 64 and 1 rows."""
    output = tmp_path_factory.mktemp("mini") / "exported"
    profile = load_profile(str(DATA / "talk.toml"))
    return export_bundle(shared_data / "alpaca2-mini", profile, output, silent)


@pytest.fixture(scope="module")
def documents(shared_data: Path) -> list[list[int]]:
    ids: list[list[int]] = json.loads((shared_data / "alpaca2-mini/held_out_ids.json").read_text())
    return ids


@pytest.fixture(scope="module")
def on_cpu(mini: Bundle) -> Bundle:
    return compile_bundle(mini, mini.path.parent / "fp32", Choices(weights="fp32"), progress=silent)


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
        mini, tmp_path / "om", Choices(target=target, weights="fp16"), progress=silent
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
        mini, tmp_path / "om", Choices(target="310p3", weights="fp16"), progress=silent
    )
    card()
    prompts = [ids[len(ids) // 2 :][:24] for ids in documents if len(ids) > 60][:4]
    ours, theirs = greedy(bundle, prompts, 64), greedy(on_cpu, prompts, 64)
    with closing(open_session(on_cpu)) as session:
        engine = Engine(session)
        for prompt, said, expected in zip(prompts, ours, theirs, strict=True):
            same = common_prefix(said, expected)
            if same < len(expected):
                with engine.slot(prompt) as slot:
                    logits = engine.prefill(slot, [*prompt, *expected[:same]])
                best = logits[expected[same]]
                assert best - logits[said[same]] <= np.spacing(np.float16(best))


@pytest.mark.parametrize("target", SOC)
def test_the_miniature_generates_the_tokens_of_the_cpu(
    target: str, bundles: Path, toolkit: Toolkit, card: Card, tmp_path: Path
) -> None:
    """From the beginning and from the middle of its dialogues, and on behind their end."""
    toolkit()
    exported = load_bundle(bundles / "talk-exported")
    bundle = compile_bundle(
        exported, tmp_path / "om", Choices(target=target, weights="fp16"), progress=silent
    )
    dialogues = json.loads((bundles / "checkpoint" / "dialogue_ids.json").read_text())
    prompts = [ids[: len(ids) * part // 8] for part in (7, 6) for ids in dialogues][:20]
    assert len({tuple(prompt) for prompt in prompts}) == 20
    card(soc_name=SOC[target])
    expected = greedy(load_bundle(bundles / "talk-fp32"), prompts, 64)
    assert greedy(bundle, prompts, 64) == expected


@pytest.mark.parametrize("target", SOC)
@pytest.mark.parametrize("weights", ["fp16", "int8"])
def test_the_miniature_talks_word_for_word(
    target: str, weights: str, bundles: Path, toolkit: Toolkit, card: Card, tmp_path: Path
) -> None:
    toolkit()
    exported = load_bundle(bundles / "talk-exported")
    bundle = compile_bundle(
        exported, tmp_path / "om", Choices(target=target, weights=weights), progress=silent
    )
    assert_shares_all(bundle)
    card(soc_name=SOC[target])
    assert answers(load_bundle(bundle.path)) == EXPECTED


@pytest.mark.parametrize("without", ["split_attention", "rows_first_cache"])
def test_without_a_pass_it_talks_the_same(
    without: str, bundles: Path, toolkit: Toolkit, card: Card, tmp_path: Path
) -> None:
    toolkit()
    exported = load_bundle(bundles / "talk-exported")
    bundle = compile_bundle(
        exported,
        tmp_path / "om",
        Choices(target="310p3", weights="fp16", without=(without,)),
        progress=silent,
    )
    assert bundle.manifest.device is not None
    layout = "HND" if without == "rows_first_cache" else "NHD"
    assert bundle.manifest.device.cache_layout == layout
    card()
    assert answers(bundle) == EXPECTED


@pytest.mark.parametrize("weights", ["fp16", "int8"])
def test_an_old_cann_gets_one_model_in_gears_and_talks_the_same(
    weights: str, bundles: Path, toolkit: Toolkit, card: Card, tmp_path: Path
) -> None:
    toolkit(cann_version="8.2.RC1")
    exported = load_bundle(bundles / "talk-exported")
    bundle = compile_bundle(
        exported, tmp_path / "om", Choices(target="310p3", weights=weights), progress=silent
    )
    assert {graph.path for graph in bundle.manifest.graphs} == {"graphs/decoder.om"}
    assert [graph.spec.name for graph in bundle.manifest.graphs] == ["prefill_s64", "decode_b1"]
    assert_shares_all(bundle)
    card(cann="8.2.RC1", external_weight_api=False)
    assert answers(bundle) == EXPECTED


def test_optional_kernels_talk_the_same(
    bundles: Path, toolkit: Toolkit, card: Card, tmp_path: Path
) -> None:
    toolkit()
    exported = load_bundle(bundles / "talk-exported")
    changes = {"target": "310p3", "weights": "int8", "block_size": 64}
    profile = {**exported.manifest.profile, **changes, "passes": ["npu_rms_norm"]}
    manifest = exported.manifest.model_copy(update={"profile": profile})
    bundle = compile_bundle(replace(exported, manifest=manifest), tmp_path / "om", progress=silent)
    card()
    assert answers(bundle) == EXPECTED


def test_several_sequences_at_once_give_the_tokens_of_each_alone(
    bundles: Path, toolkit: Toolkit, card: Card, tmp_path: Path
) -> None:
    toolkit()
    exported = load_bundle(bundles / "small-exported")
    choices = Choices(target="910b3", weights="fp16")
    bundle = compile_bundle(exported, tmp_path / "om", choices, progress=silent)
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
    bundle = compile_bundle(exported, tmp_path / "om", choices, progress=silent)
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
