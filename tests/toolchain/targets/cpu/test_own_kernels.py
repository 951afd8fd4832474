"""Bundles with kernels of our own beside those of ONNX Runtime, from the same export."""

from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
from numpy.typing import NDArray

from profiles.profile import exported_profile
from runtime.bundle.manifest import Graph
from runtime.bundle.reader import Bundle, load_bundle
from runtime.engine.engine import Engine
from runtime.errors import SessionError
from runtime.kernels.layout import KERNELS_VERSION, OPERATOR
from runtime.kernels.library import Kernels
from runtime.sessions import open_session
from runtime.sessions.onnx.own_kernels import register_kernels
from runtime.sessions.onnx.quiet_ort import ort
from toolchain.choices import Choices
from toolchain.compiler import compile_bundle
from toolchain.errors import TargetError
from toolchain.targets import TARGETS
from toolchain.targets.cpu.footprint import weights_read
from toolchain.targets.cpu.kernels import settle_kernels
from toolchain.targets.cpu.own_kernels import whole_tiles

PROMPT, NEXT = list(range(5, 25)), list(range(30, 42))


@pytest.fixture(scope="module")
def exported(bundles: Path) -> Bundle:
    return load_bundle(bundles / "talk-exported")


@pytest.fixture(scope="module", params=["int4", "int8"])
def both(
    request: pytest.FixtureRequest,
    kernels: Kernels,
    exported: Bundle,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Bundle, Bundle]:
    """Ours, and ONNX Runtime's."""
    directory = tmp_path_factory.mktemp("both")
    return (
        compile_bundle(exported, directory / "own", Choices(weights=request.param, kernels="own")),
        compile_bundle(
            exported, directory / "theirs", Choices(weights=request.param, kernels="onnxruntime")
        ),
    )


def graph_of(bundle: Bundle, phase: str) -> Graph:
    return next(graph for graph in bundle.manifest.graphs if graph.spec.phase == phase)


def logits_of(bundle: Bundle) -> NDArray[np.float32]:
    """Rows of logits after the prompt and after each of the tokens that follow."""
    with closing(open_session(bundle)) as session:
        engine = Engine(session)
        with engine.slot(PROMPT) as slot:
            rows = [np.array(engine.prefill(slot, PROMPT)).reshape(-1)]
            rows += [np.array(engine.decode([slot], [token])).reshape(-1) for token in NEXT]
    return np.array(rows)


def test_the_manifest_and_the_graph_say_whose_kernels_compute(both: tuple[Bundle, Bundle]) -> None:
    own, theirs = both
    assert own.manifest.kernels == KERNELS_VERSION
    assert theirs.manifest.kernels is None
    for bundle, product, other in (
        (own, OPERATOR, "MatMulNBits"),
        (theirs, "MatMulNBits", OPERATOR),
    ):
        model = ir.load(bundle.file(graph_of(bundle, "decode").path))
        counts = Counter(node.op_type for node in model.graph)
        assert counts[product] == 5 * bundle.manifest.model.num_hidden_layers + 1
        assert counts[other] == 0


def test_both_kernels_give_the_same_logits_up_to_float16_scales(
    both: tuple[Bundle, Bundle],
) -> None:
    own, theirs = map(logits_of, both)
    np.testing.assert_allclose(own, theirs, atol=0.05 * np.abs(theirs).max())


def test_every_instruction_set_gives_the_same_logits(
    both: tuple[Bundle, Bundle], kernels: Kernels
) -> None:
    results = set()
    for name in kernels.instruction_sets:
        kernels.select(name)
        results.add(logits_of(both[0]).tobytes())
    kernels.select(None)
    assert len(results) == 1


def test_plan_counts_the_bytes_that_lie_in_the_bundle(both: tuple[Bundle, Bundle]) -> None:
    own, _ = both
    weights = sum(
        entry.size for name, entry in own.manifest.files.items() if name.endswith(".tiles")
    )
    assert weights_read(own.manifest.model, exported_profile(own)) == weights


def test_a_bundle_for_other_kernels_is_refused() -> None:
    later = KERNELS_VERSION + 1
    said = rf"other kernels.*got version {later}; allowed: version {later - 1} or older.*compile"
    with pytest.raises(SessionError, match=said):
        register_kernels(ort.SessionOptions(), later)
    register_kernels(ort.SessionOptions(), 1)


@pytest.mark.parametrize("sizes", [[40], [1] * 40, [5, 11, 24], [16, 16, 8], [17, 23]])
def test_rows_are_regrouped_to_whole_tiles(sizes: list[int]) -> None:
    levels = np.arange(40 * 3 * 16, dtype=np.uint32).astype(np.uint8).reshape(40, 3, 16)
    scales = np.arange(40 * 3, dtype=np.float32).reshape(40, 3)
    ends = np.cumsum(sizes)
    pieces = [
        (levels[end - size : end].tobytes(), scales[end - size : end].tobytes())
        for end, size in zip(ends, sizes, strict=True)
    ]
    groups = list(whole_tiles(iter(pieces), (3, 16)))
    assert [len(group) % 16 for group, _ in groups[:-1]] == [0] * (len(groups) - 1)
    np.testing.assert_array_equal(np.concatenate([group for group, _ in groups]), levels)
    np.testing.assert_array_equal(np.concatenate([group for _, group in groups]), scales)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"weights": "fp32"}, "quantized weights.*got weights fp32", id="float32"),
        pytest.param({"block_size": 16}, "block_size; got 16", id="block"),
    ],
)
def test_what_ours_cannot_compute_is_left_to_onnxruntime_or_refused(
    changes: dict[str, object], said: str, exported: Bundle
) -> None:
    profile = exported_profile(exported).model_copy(update={"weights": "int4", **changes})
    assert settle_kernels(profile).kernels == "onnxruntime"
    with pytest.raises(TargetError, match=said):
        settle_kernels(profile.model_copy(update={"kernels": "own"}))


def test_a_chip_takes_no_choice_of_kernels() -> None:
    assert {target.kernels for name, target in TARGETS.items() if name != "cpu"} == {("auto",)}
