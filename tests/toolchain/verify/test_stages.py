"""Planted faults: verify must fail, and name the place in which each one lies."""

import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
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
from runtime.progress import SILENT
from runtime.sessions import Chunk, open_session
from runtime.sessions.onnx.portable import PortableSession
from runtime.text.sentencepiece_tokenizer import SentencePieceTokenizer
from runtime.text.template import Message, encode_chat
from tests.dialogues import AGAIN_ALONE, BOX, CAPITAL, LLAMA, STEPS
from tests.paths import DATA
from tests.toolchain.verify.planting import (
    Edit,
    drop_norm,
    planted,
    poison,
    scale_final_norm,
    scale_norm,
    swap_gate_and_up,
    swap_layers,
    transpose_q,
    wrong_head_row,
)
from toolchain.compiler import compile_bundle
from toolchain.errors import TargetError
from toolchain.verify.report import LEAST_ROWS, GraphReport, StageReport, report_json
from toolchain.verify.sequences import default_sequences
from toolchain.verify.stages import Opener, Stage, verify

HIDDEN = 128
GRAPHS = ["prefill_s4", "prefill_s8", "score_s8", "decode_b1", "decode_b3"]


@pytest.fixture(scope="module")
def enough(bundles: Path) -> list[list[int]]:
    """Dialogues that the miniature knows, cut to the 40 rows of the small cache."""
    tokenizer = SentencePieceTokenizer(bundles / "checkpoint" / TOKENIZER)
    ids = [
        encode_chat(tokenizer, [Message(role="user", content=question)]) + tokenizer.encode(answer)
        for question, answer in (CAPITAL, BOX, LLAMA, STEPS, AGAIN_ALONE)
    ]
    return [sequence[-40:] for sequence in ids]


@pytest.fixture(scope="module")
def sequences(enough: list[list[int]]) -> list[list[int]]:
    """Two of them, too few for a pass but not to find a fault."""
    return enough[:2]


def run(
    loaded: list[Bundle], model: Path, sequences: list[list[int]], opener: Opener = open_session
) -> list[StageReport]:
    profile = load_profile(str(DATA / "small.toml"))
    stages = [Stage(bundle, opener) for bundle in loaded]
    return verify(stages, model, profile, sequences, progress=SILENT)


def named(report: GraphReport) -> list[str]:
    """The places that are past their limit, without the figures."""
    return [culprit.partition(" (")[0] for culprit in report.culprits]


@pytest.mark.parametrize(
    ("edit", "place"),
    [
        (transpose_q, "layer 2"),
        (swap_gate_and_up, "layer 1"),
        (drop_norm, "layer 3"),
        (scale_norm, "layer 1"),
        (swap_layers, "layers 1, 2"),
        (scale_final_norm, "norm or lm_head"),
        (wrong_head_row, "lm_head, id 300"),
    ],
)
def test_a_fault_in_the_weights_is_named_by_its_place(
    edit: Edit, place: str, bundles: Path, tmp_path: Path, sequences: list[list[int]]
) -> None:
    exported = planted(load_bundle(bundles / "small-exported"), tmp_path / "exported", edit)
    [stage] = run([exported], bundles / "checkpoint", sequences[:1])
    assert stage.verdict == "fail"
    assert [report.graph for report in stage.graphs] == GRAPHS
    assert [named(report) for report in stage.graphs] == [[place]] * len(GRAPHS)


def test_a_fault_fails_every_stage_made_from_it(
    bundles: Path, tmp_path: Path, sequences: list[list[int]]
) -> None:
    exported = planted(load_bundle(bundles / "small-exported"), tmp_path / "exported", transpose_q)
    compiled = compile_bundle(exported, tmp_path / "fp32")
    for stage in run([exported, compiled], bundles / "checkpoint", sequences[:1]):
        assert stage.verdict == "fail"
        assert [named(report) for report in stage.graphs] == [["layer 2"]] * len(GRAPHS)


def test_a_fault_of_the_compiler_is_seen_in_the_compiled_stage_only(
    bundles: Path, tmp_path: Path, enough: list[list[int]]
) -> None:
    exported = load_bundle(bundles / "small-exported")
    planted(exported, tmp_path / "faulty", transpose_q)
    compiled = compile_bundle(load_bundle(tmp_path / "faulty"), tmp_path / "fp32")
    before, after = run([exported, compiled], bundles / "checkpoint", enough)
    assert before.verdict == "pass"
    assert after.verdict == "fail"
    assert not any(report.culprits for report in before.graphs)


def test_a_wrong_rotary_base_shows_in_every_layer(
    bundles: Path, tmp_path: Path, sequences: list[list[int]]
) -> None:
    from export.exporter import export_bundle

    model = shutil.copytree(bundles / "checkpoint", tmp_path / "model")
    config = json.loads((model / "config.json").read_bytes())
    (model / "config.json").write_text(json.dumps({**config, "rope_theta": 500.0}))
    profile = load_profile(str(DATA / "two.toml"))
    exported = export_bundle(model, profile, tmp_path / "exported", SILENT)
    [stage] = run([exported], bundles / "checkpoint", sequences[:1])
    assert stage.verdict == "fail"
    assert [named(report) for report in stage.graphs] == [["layers 0 to 3"]] * 2


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
    assert stage.verdict == "fail"
    for report in stage.graphs:
        if report.graph.startswith("decode"):
            assert named(report) == ["layer 1"]


def test_sound_stages_pass(bundles: Path, enough: list[list[int]]) -> None:
    loaded = [load_bundle(bundles / name) for name in ("small-exported", "small-fp32")]
    stages = run(loaded, bundles / "checkpoint", enough)
    for stage in stages:
        assert stage.verdict == "pass"
        assert stage.rows >= LEAST_ROWS
        assert f"pass, by at least {stage.rows} rows of every graph" in stage.summary[0]
        # In float16 one answer of five may part at a tie.
        assert stage.greedy_match >= (1.0 if stage.weights == "fp32" else 0.8)
        for report in stage.graphs:
            assert not report.culprits
            assert report.agreement.argmax == 1.0


def test_few_rows_are_no_pass_and_say_what_to_give(
    bundles: Path, sequences: list[list[int]]
) -> None:
    [stage] = run([load_bundle(bundles / "small-fp32")], bundles / "checkpoint", sequences)
    assert stage.rows < LEAST_ROWS
    assert stage.verdict == "too few rows"
    [line] = stage.summary
    assert (
        f"too few rows to judge: {stage.rows} of a graph, a pass takes {LEAST_ROWS}; give --ids"
        in line
    )
    assert json.loads(report_json([stage]))["passed"] is False


def test_the_built_in_texts_are_enough_rows_of_every_graph(bundles: Path) -> None:
    """Even where the cache is as short as here; the verdict is another matter."""
    bundle = load_bundle(bundles / "small-fp32")
    texts = [ids[:40] for ids in default_sequences(bundle)]
    [stage] = run([bundle], bundles / "checkpoint", texts)
    assert stage.rows >= LEAST_ROWS
    assert stage.verdict == "pass"


def test_a_failure_that_no_layer_explains_names_none(
    bundles: Path, sequences: list[list[int]]
) -> None:
    """Logits may be past a limit though every layer is within its own."""
    profile = load_profile(str(DATA / "small.toml"))
    tight = profile.limits_for("fp32", "float").model_copy(update={"kl": 1e-30})
    profile = profile.model_copy(update={"limits": {"fp32": tight}})
    bundle = load_bundle(bundles / "small-fp32")
    [stage] = verify([Stage(bundle)], bundles / "checkpoint", profile, sequences)
    assert stage.verdict == "fail"
    assert all("no single layer is past its limit" in line for line in stage.summary[1:])
    assert not any(report.culprits for report in stage.graphs)


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
    assert [report.graph for report in stage.graphs if report.verdict == "fail"] == failing


def test_logits_that_are_not_numbers_are_traced_to_their_layer(
    bundles: Path, tmp_path: Path, sequences: list[list[int]]
) -> None:
    faulty = planted(load_bundle(bundles / "small-exported"), tmp_path / "nan", poison)
    [stage] = run([faulty], bundles / "checkpoint", sequences)
    for report in stage.graphs:
        assert named(report) == ["layer 1"]
        assert "relative error nan" in report.problem
    assert "NaN" not in report_json([stage])  # JSON has no such number


def test_without_room_for_a_copy_the_logits_are_judged_and_it_is_said(
    bundles: Path, enough: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bundle that lies where this user may not write, and another disk that is full."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(tempfile, "tempdir", "/dev/shm")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=0))
    [stage] = run([load_bundle(bundles / "small-fp32")], bundles / "checkpoint", enough)
    assert stage.verdict == "pass"
    assert stage.summary[0].endswith("; its layers were not looked at")


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
