"""Planted faults: verify must fail, and name the layer in which each one lies."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from profiles import load_profile
from runtime.bundle import tensor_names as names
from runtime.bundle.manifest import GraphSpec
from runtime.bundle.reader import TOKENIZER, Bundle, load_bundle
from runtime.bundle.writer import BundleWriter
from runtime.errors import PromptError
from runtime.sessions import Chunk, open_session
from runtime.sessions.onnx.portable import PortableSession
from runtime.text.template import Message, encode_chat
from runtime.text.tokenizer import Tokenizer
from tests.bundles import silent
from tests.dialogues import BOX, CAPITAL
from tests.paths import DATA
from toolchain.compiler import compile_bundle
from toolchain.errors import TargetError
from toolchain.verify.stages import Opener, StageReport, read_ids, verify

Edit = Callable[[dict[str, np.ndarray]], None]
HIDDEN, INNER = 128, 352
GRAPHS = ["prefill_s4", "prefill_s8", "score_s8", "decode_b1", "decode_b3"]


@pytest.fixture(scope="module")
def sequences(bundles: Path) -> list[list[int]]:
    """Two of the dialogues that the miniature knows, cut to the 40 rows of the small cache."""
    tokenizer = Tokenizer(bundles / "checkpoint" / TOKENIZER)
    ids = [
        encode_chat(tokenizer, [Message(role="user", content=question)]) + tokenizer.encode(answer)
        for question, answer in (CAPITAL, BOX)
    ]
    return [sequence[-40:] for sequence in ids]


def run(
    loaded: list[Bundle], model: Path, sequences: list[list[int]], opener: Opener = open_session
) -> list[StageReport]:
    profile = load_profile(str(DATA / "small.toml"))
    return verify(loaded, model, profile, sequences, progress=silent, opener=opener)


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
            writer.files.write(relative, [data])
        return writer.finish(bundle.manifest.model_copy(update={"files": writer.files.entries}))


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
    compiled = compile_bundle(exported, tmp_path / "fp32", progress=silent)
    stages = run([exported, compiled], bundles / "checkpoint", sequences)
    for stage in stages:
        assert not stage.passed
        assert [report.graph for report in stage.graphs] == GRAPHS
        for report in stage.graphs:
            assert report.failures
            assert report.divergence is not None
            assert report.divergence.layer == layer


def test_a_fault_of_the_compiler_is_seen_in_the_compiled_stage_only(
    bundles: Path, tmp_path: Path, sequences: list[list[int]]
) -> None:
    exported = load_bundle(bundles / "small-exported")
    planted(exported, tmp_path / "faulty", transpose_q)
    compiled = compile_bundle(load_bundle(tmp_path / "faulty"), tmp_path / "fp32", progress=silent)
    before, after = run([exported, compiled], bundles / "checkpoint", sequences)
    assert before.passed
    assert not after.passed
    assert all(report.divergence is None for report in before.graphs)


def test_a_wrong_rotary_base_shows_in_the_first_layer(
    bundles: Path, tmp_path: Path, sequences: list[list[int]]
) -> None:
    from export.exporter import export_bundle

    model = shutil.copytree(bundles / "checkpoint", tmp_path / "model")
    config = json.loads((model / "config.json").read_bytes())
    (model / "config.json").write_text(json.dumps({**config, "rope_theta": 500.0}))
    profile = load_profile(str(DATA / "two.toml"))
    exported = export_bundle(model, profile, tmp_path / "exported", silent)
    [stage] = run([exported], bundles / "checkpoint", sequences)
    assert not stage.passed
    assert {report.divergence.layer for report in stage.graphs if report.divergence} == {0}


class OffByOne(PortableSession):
    """Writes the new rows of layer 1 one slot too far."""

    def _write_rows(
        self, spec: GraphSpec, chunks: Sequence[Chunk], outputs: dict[str, NDArray[Any]]
    ) -> None:
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
    assert not stage.passed
    for report in stage.graphs:
        if report.graph.startswith("decode"):
            assert report.divergence is not None
            assert report.divergence.layer == 1


def test_sound_stages_pass_and_are_not_searched(bundles: Path, sequences: list[list[int]]) -> None:
    loaded = [load_bundle(bundles / name) for name in ("small-exported", "small-fp32")]
    stages = run(loaded, bundles / "checkpoint", sequences)
    for stage in stages:
        assert stage.passed
        assert stage.greedy_match == 1.0
        for report in stage.graphs:
            assert report.divergence is None
            assert report.agreement.argmax == 1.0


@pytest.mark.parametrize(
    ("name", "failing"),
    [
        ("prefill_s8", ["prefill_s8"]),
        ("decode_b3", ["decode_b3"]),
        ("prefill_s4", ["prefill_s4", "decode_b1", "decode_b3"]),  # decode goes on from its rows
    ],
)
def test_a_fault_in_one_graph_is_found_in_that_graph(
    name: str, failing: list[str], bundles: Path, tmp_path: Path, sequences: list[list[int]]
) -> None:
    """Graphs that the engine would not have chosen for these lengths were never run."""
    bundle = load_bundle(bundles / "small-exported")
    with BundleWriter(tmp_path / "faulty") as writer:
        for relative in bundle.manifest.files:
            data = bundle.file(relative).read_bytes()
            if relative == f"graphs/{name}.onnx":
                model = ir.from_proto(onnx.load_from_string(data))
                for node in model.graph:
                    if node.op_type == "Sigmoid":
                        node.op_type = "Tanh"
                data = ir.to_proto(model).SerializeToString()
            writer.files.write(relative, [data])
        faulty = writer.finish(bundle.manifest.model_copy(update={"files": writer.files.entries}))
    [stage] = run([faulty], bundles / "checkpoint", sequences)
    assert [report.graph for report in stage.graphs if report.failures] == failing


def test_logits_that_are_not_numbers_are_traced_to_their_layer(
    bundles: Path, tmp_path: Path, sequences: list[list[int]]
) -> None:
    def poison(weights: dict[str, np.ndarray]) -> None:
        weights["layers.1.input_layernorm.weight"][3] = np.nan

    faulty = planted(load_bundle(bundles / "small-exported"), tmp_path / "nan", poison)
    [stage] = run([faulty], bundles / "checkpoint", sequences)
    for report in stage.graphs:
        assert report.divergence is not None
        assert report.divergence.layer == 1
        assert np.isnan(report.divergence.relative_error)


def test_a_checkpoint_of_another_model_is_refused(
    bundles: Path, tmp_path: Path, sequences: list[list[int]]
) -> None:
    model = shutil.copytree(bundles / "checkpoint", tmp_path / "model")
    config = json.loads((model / "config.json").read_bytes())
    (model / "config.json").write_text(json.dumps({**config, "num_attention_heads": 8}))
    with pytest.raises(TargetError, match="num_attention_heads"):
        run([load_bundle(bundles / "small-fp32")], model, sequences)


def test_a_token_that_the_model_lacks_is_refused_before_the_work(bundles: Path) -> None:
    with pytest.raises(PromptError, match="got 640"):
        run([load_bundle(bundles / "small-fp32")], Path("nowhere"), [[1, 2, 640, 3]])


def test_taps_leave_the_bundle_as_it_was(bundles: Path, tmp_path: Path) -> None:
    from toolchain.verify.taps import tapped

    copy = tapped(load_bundle(bundles / "small-fp32"), tmp_path)
    plain, shown = open_session(load_bundle(bundles / "small-fp32")), open_session(copy)
    graph = next(g for g in copy.manifest.graphs if g.spec.phase == "score")
    chunk = Chunk(slot=0, start=0, token_ids=[1, 5, 9])
    expected = plain.run(plain.manifest.graphs[2], [chunk])[0, :3]
    np.testing.assert_array_equal(shown.run(graph, [chunk])[0, :3], expected)
    assert shown.hidden["hidden.0"].shape == (1, 3, HIDDEN)
    assert not plain.hidden


@pytest.mark.parametrize("text", ["{", "{}", "[]", "[[1, 2]]", '[[1, 2, 3, "4"]]', "[1, 2, 3, 4]"])
def test_ids_that_are_no_list_of_sequences_are_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "ids.json"
    file.write_text(text)
    with pytest.raises(PromptError, match=r"ids\.json"):
        read_ids(file)
