"""Planted faults: verify must fail, and name the layer in which each one lies."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from profiles import load_profile
from runtime import manifest as names
from runtime.bundle import TOKENIZER, Bundle, BundleWriter, load_bundle
from runtime.sessions import Chunk, open_session
from runtime.sessions.portable import PortableSession
from runtime.template import Message, encode_chat
from runtime.tokenizer import Tokenizer
from tests.bundles import DATA, silent
from toolchain.compiler import compile_bundle
from toolchain.verify import StageReport, read_ids, verify

Edit = Callable[[dict[str, np.ndarray]], None]
HIDDEN, INNER = 128, 352


@pytest.fixture(scope="module")
def sequences(bundles: Path) -> list[list[int]]:
    """Two of the dialogues that the miniature knows, cut to the 40 rows of the small cache."""
    tokenizer = Tokenizer(bundles / "checkpoint" / TOKENIZER)
    dialogues = (
        ("北京是哪个国家的首都？", "北京是中国的首都，也是全国的政治和文化中心。"),
        ("What is an edge box?", "An edge box is a small computer that runs close to the data."),
    )
    ids = [
        encode_chat(tokenizer, [Message(role="user", content=question)]) + tokenizer.encode(answer)
        for question, answer in dialogues
    ]
    return [sequence[-40:] for sequence in ids]


def run(
    loaded: list[Bundle], model: Path, sequences: list[list[int]], **options: object
) -> list[StageReport]:
    profile = load_profile(str(DATA / "small.toml"))
    return verify(loaded, model, profile, sequences, report=silent, **options)  # type: ignore[arg-type]


def planted(bundle: Bundle, output: Path, edit: Edit) -> Bundle:
    """A copy of an exported bundle with other weights, honestly hashed."""
    shapes = {"gate": (INNER, HIDDEN), "up_proj": (INNER, HIDDEN), "q_proj": (HIDDEN, HIDDEN)}
    weights: dict[str, np.ndarray] = {}
    for relative in bundle.manifest.files:
        if "/weights/" in relative:
            weights[relative.rpartition("/")[2]] = np.fromfile(bundle.file(relative), np.float16)
    for name in weights:
        for part, shape in shapes.items():
            if part in name:
                weights[name] = weights[name].reshape(shape)
    edit(weights)
    with BundleWriter(output) as writer:
        for relative in bundle.manifest.files:
            name = relative.rpartition("/")[2]
            data = (
                weights[name].tobytes() if name in weights else bundle.file(relative).read_bytes()
            )
            writer.write(relative, [data])
        return writer.finish(bundle.manifest.model_copy(update={"files": writer.files}))


def transpose_q(weights: dict[str, np.ndarray]) -> None:
    name = "layers.2.self_attn.q_proj.weight"
    weights[name] = np.ascontiguousarray(weights[name].T)


def swap_gate_and_up(weights: dict[str, np.ndarray]) -> None:
    gate, up = "layers.1.mlp.gate_proj.weight", "layers.1.mlp.up_proj.weight"
    weights[gate], weights[up] = weights[up], weights[gate]


def drop_norm(weights: dict[str, np.ndarray]) -> None:
    name = "layers.3.post_attention_layernorm.weight"
    weights[name] = np.ones_like(weights[name])


@pytest.mark.parametrize(
    ("edit", "layer"), [(transpose_q, 2), (swap_gate_and_up, 1), (drop_norm, 3)]
)
def test_a_wrong_weight_fails_every_stage_made_from_it_and_its_layer_is_named(
    edit: Edit, layer: int, bundles: Path, tmp_path: Path, sequences: list[list[int]]
) -> None:
    exported = planted(load_bundle(bundles / "small-exported"), tmp_path / "exported", edit)
    compiled = compile_bundle(exported, tmp_path / "fp32", report=silent)
    stages = run([exported, compiled], bundles / "checkpoint", sequences)
    for stage in stages:
        assert not stage.passed
        assert {phase.phase for phase in stage.phases} == {"prefill", "score", "decode"}
        for phase in stage.phases:
            assert phase.failures
            assert phase.divergence is not None
            assert phase.divergence.layer == layer


def test_a_fault_of_the_compiler_is_seen_in_the_compiled_stage_only(
    bundles: Path, tmp_path: Path, sequences: list[list[int]]
) -> None:
    exported = load_bundle(bundles / "small-exported")
    planted(exported, tmp_path / "faulty", transpose_q)
    compiled = compile_bundle(load_bundle(tmp_path / "faulty"), tmp_path / "fp32", report=silent)
    before, after = run([exported, compiled], bundles / "checkpoint", sequences)
    assert before.passed
    assert not after.passed
    assert all(phase.divergence is None for phase in before.phases)


def test_a_wrong_rotary_base_shows_in_the_first_layer(
    bundles: Path, tmp_path: Path, sequences: list[list[int]]
) -> None:
    from export.exporter import export_bundle

    model = shutil.copytree(bundles / "checkpoint", tmp_path / "model")
    config = json.loads((model / "config.json").read_bytes())
    (model / "config.json").write_text(json.dumps({**config, "rope_theta": 500.0}))
    profile = load_profile(str(DATA / "small.toml"))
    exported = export_bundle(model, profile, tmp_path / "exported", silent)
    [stage] = run([exported], bundles / "checkpoint", sequences)
    assert not stage.passed
    assert {phase.divergence.layer for phase in stage.phases if phase.divergence} == {0}


class OffByOne(PortableSession):
    """Writes the new rows of layer 1 one slot too far."""

    def _write_rows(self, spec, chunks, outputs) -> None:  # type: ignore[no-untyped-def]
        super()._write_rows(spec, chunks, outputs)
        for chunk in chunks:
            start, length = chunk.start, len(chunk.token_ids)
            for cache, name in ((self.keys, names.new_key(1)), (self.values, names.new_value(1))):
                cache[1, chunk.slot, :, start] = 0
                rows = cache[1, chunk.slot, :, start + 1 : start + 1 + length]
                rows[...] = outputs[name][0, :, : rows.shape[1]]


def test_a_cache_row_written_one_slot_off_is_found_in_its_layer(
    bundles: Path, sequences: list[list[int]]
) -> None:
    exported = load_bundle(bundles / "small-exported")
    [stage] = run([exported], bundles / "checkpoint", sequences, opener=OffByOne)
    decode = next(phase for phase in stage.phases if phase.phase == "decode")
    assert not stage.passed
    assert decode.divergence is not None
    assert decode.divergence.layer == 1


def test_sound_stages_pass_and_are_not_searched(bundles: Path, sequences: list[list[int]]) -> None:
    loaded = [load_bundle(bundles / name) for name in ("small-exported", "small-fp32")]
    stages = run(loaded, bundles / "checkpoint", sequences)
    for stage in stages:
        assert stage.passed
        assert stage.greedy_match == 1.0
        for phase in stage.phases:
            assert phase.divergence is None
            assert phase.agreement.argmax == 1.0


def test_taps_leave_the_bundle_as_it_was(bundles: Path, tmp_path: Path) -> None:
    from toolchain.taps import tapped

    copy = tapped(load_bundle(bundles / "small-fp32"), tmp_path)
    plain, shown = open_session(load_bundle(bundles / "small-fp32")), open_session(copy)
    graph = next(g for g in copy.manifest.graphs if g.spec.phase == "score")
    chunk = Chunk(slot=0, start=0, token_ids=[1, 5, 9])
    expected = plain.run(plain.manifest.graphs[2], [chunk])[0, :3]
    np.testing.assert_array_equal(shown.run(graph, [chunk])[0, :3], expected)
    assert shown.hidden["hidden.0"].shape == (1, 8, HIDDEN)
    assert not plain.hidden


@pytest.mark.parametrize("text", ["{", "{}", "[]", "[[1, 2]]", '[[1, 2, 3, "4"]]', "[1, 2, 3, 4]"])
def test_ids_that_are_no_list_of_sequences_are_refused(text: str, tmp_path: Path) -> None:
    from runtime.errors import PromptError

    file = tmp_path / "ids.json"
    file.write_text(text)
    with pytest.raises(PromptError, match=r"ids\.json"):
        read_ids(file)
