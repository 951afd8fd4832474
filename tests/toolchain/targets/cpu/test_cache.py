"""The int8 cache: what the kernel stores, what calibration measures, and what it costs."""

from contextlib import closing
from pathlib import Path
from typing import Literal

import numpy as np
import onnx_ir as ir
import pytest

from runtime.bundle.node_names import ATTENTION_KERNEL, attention_kernels
from runtime.bundle.reader import Bundle, load_bundle
from runtime.bundle.tensor_names import new_key, new_value
from runtime.kernels.layout import ATTENTION
from runtime.progress import SILENT
from runtime.sessions import Chunk, open_session
from runtime.sessions.onnx.cpu import CpuSession
from toolchain.choices import Choices
from toolchain.compiler import compile_bundle
from toolchain.errors import TargetError
from toolchain.targets.cpu.calibrate import MARGIN, calibration_ids


@pytest.fixture(scope="module")
def exported(bundles: Path) -> Bundle:
    return load_bundle(bundles / "talk-exported")


def scales_of(bundle: Bundle) -> dict[str, np.ndarray]:
    model = ir.load(bundle.file(bundle.manifest.graphs[0].path))
    return {
        name.removesuffix(".scale"): value.const_value.numpy()
        for name, value in model.graph.initializers.items()
        if name.endswith(".scale") and value.const_value is not None
    }


def fill(bundle: Bundle, token_ids: list[int]) -> tuple[CpuSession, np.ndarray]:
    """A session whose slot 0 holds the tokens, and the logits after the last."""
    session = open_session(bundle)
    assert isinstance(session, CpuSession)
    prefill = next(g for g in bundle.manifest.graphs if g.spec.phase == "prefill")
    logits = np.empty(0)
    for start in range(0, len(token_ids), prefill.spec.seq_len):
        part = token_ids[start : start + prefill.spec.seq_len]
        logits = session.run(prefill, [Chunk(slot=0, start=start, token_ids=part)])[0].copy()
    return session, logits


def test_the_scales_are_the_largest_magnitudes_of_the_text(exported: Bundle, bundles: Path) -> None:
    [ids] = calibration_ids(exported).tolist()
    session, _ = fill(load_bundle(bundles / "talk-int4"), ids)
    scales = scales_of(load_bundle(bundles / "talk-int4-kv8"))
    with closing(session):
        assert len(scales) == 2 * exported.manifest.model.num_hidden_layers
        for i, (keys, values) in enumerate(zip(session.keys, session.values, strict=True)):
            for name, buffer in ((new_key(i), keys), (new_value(i), values)):
                reached = np.abs(buffer[0, :, : len(ids)]).max(axis=1)
                np.testing.assert_allclose(scales[name], reached * MARGIN / 127, rtol=2e-3)


def test_the_cache_holds_the_rounded_float_cache_at_a_quarter_of_its_size(bundles: Path) -> None:
    ids = list(range(5, 45))
    full, _ = fill(load_bundle(bundles / "talk-int4"), ids)
    small, _ = fill(load_bundle(bundles / "talk-int4-kv8"), ids)
    scales = scales_of(load_bundle(bundles / "talk-int4-kv8"))
    with closing(full), closing(small):
        # The first layer's rows depend on no cache.
        for name, whole, packed in (
            (new_key(0), full.keys[0], small.keys[0]),
            (new_value(0), full.values[0], small.values[0]),
        ):
            rows = whole[0, :, : len(ids)]
            expected = np.clip(np.rint(rows / scales[name][:, None]), -128, 127)
            assert np.abs(packed[0, :, : len(ids)] - expected).max() <= 1  # rounding of a half
            assert packed.dtype == np.int8
            assert packed.nbytes * 4 == whole.nbytes


def test_logits_over_an_int8_cache_stay_close(bundles: Path) -> None:
    ids = list(range(5, 45))
    results = []
    for name in ("talk-int4", "talk-int4-kv8"):
        session, logits = fill(load_bundle(bundles / name), ids)
        session.close()
        results.append(logits)
    error = np.linalg.norm(results[1] - results[0]) / np.linalg.norm(results[0])
    assert 0 < error < 0.05


@pytest.mark.parametrize(
    ("kernels", "operator"), [("own", ATTENTION), ("onnxruntime", ATTENTION_KERNEL)]
)
def test_attention_is_computed_by_the_kernels_that_compute_the_products(
    kernels: Literal["own", "onnxruntime"], operator: str, exported: Bundle, tmp_path: Path
) -> None:
    choices = Choices(weights="int8", kv_cache="int8", kernels=kernels)
    bundle = compile_bundle(exported, tmp_path / "out", choices, progress=SILENT)
    model = ir.load(bundle.file(bundle.manifest.graphs[0].path))
    found = [node.name for node in model.graph if node.op_type == operator]
    assert found == attention_kernels(bundle.manifest.model.num_hidden_layers)


def test_own_attention_gives_the_logits_of_onnx_runtimes(exported: Bundle, tmp_path: Path) -> None:
    """Queries and probabilities are rounded too, as all that is multiplied with weights."""
    ids = list(range(5, 105))
    results = []
    for kernels in ("own", "onnxruntime"):
        choices = Choices(weights="int8", kv_cache="int8", kernels=kernels)
        bundle = compile_bundle(exported, tmp_path / kernels, choices, progress=SILENT)
        session, logits = fill(bundle, ids)
        session.close()
        results.append(logits)
    error = np.linalg.norm(results[1] - results[0]) / np.linalg.norm(results[0])
    assert 0 < error < 0.05


@pytest.mark.parametrize(
    ("choices", "says"),
    [
        (Choices(kv_cache="int3"), "no such KV cache; got int3; allowed: float, int8"),
        (Choices(target="310p3", weights="fp16", kv_cache="int8"), "allowed: float"),
        (
            Choices(kv_cache="int8", without=("grouped_query_attention",)),
            "needs the pass grouped_query_attention",
        ),
    ],
)
def test_an_impossible_cache_is_refused(
    choices: Choices, says: str, exported: Bundle, tmp_path: Path
) -> None:
    with pytest.raises(TargetError, match=says):
        compile_bundle(exported, tmp_path / "out", choices, progress=SILENT)
    assert list(tmp_path.iterdir()) == []
