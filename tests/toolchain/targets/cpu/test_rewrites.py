"""The list of rewrites: each can be left out, and the bundle still answers word for word."""

from collections import Counter
from contextlib import closing
from pathlib import Path

import onnx_ir as ir
import pytest

from profiles.profile import exported_profile
from runtime.bundle.reader import TOKENIZER, Bundle, load_bundle
from runtime.completion import complete
from runtime.engine.engine import Engine
from runtime.sampling.params import SamplingParams
from runtime.sessions import open_session
from runtime.text.template import Message
from runtime.text.tokenizer import Tokenizer
from tests.bundles import silent
from tests.dialogues import CAPITAL
from toolchain.choices import Choices
from toolchain.compiler import compile_bundle
from toolchain.errors import TargetError
from toolchain.targets.cpu.passes import PASSES, choose_passes

SWITCHES = [rewrite.name for rewrite in PASSES if not rewrite.instead]
# What a graph has none of when the rewrite was left out.
KERNELS = {
    "grouped_query_attention": "GroupQueryAttention",
    "free_dimensions": "GroupQueryAttention",
    "fuse_norms": "SimplifiedLayerNormalization",
}


@pytest.fixture(scope="module")
def exported(bundles: Path) -> Bundle:
    return load_bundle(bundles / "talk-exported")


def first_graph(bundle: Bundle) -> ir.Graph:
    return ir.load(bundle.file(bundle.manifest.graphs[0].path)).graph


def answer(bundle: Bundle) -> str:
    with closing(open_session(bundle)) as session:
        tokenizer = Tokenizer(bundle.file(TOKENIZER))
        params = SamplingParams(stop_token_ids=(tokenizer.eos_token_id,))
        question = [Message(role="user", content=CAPITAL[0])]
        return complete(Engine(session), tokenizer, question, params).text


@pytest.mark.parametrize("weights", ["int4", "fp32"])
@pytest.mark.parametrize("name", SWITCHES)
def test_a_bundle_without_one_rewrite_answers_the_same(
    name: str, weights: str, exported: Bundle, tmp_path: Path
) -> None:
    bundle = compile_bundle(
        exported, tmp_path / "out", Choices(weights=weights, without=(name,)), report=silent
    )
    assert answer(bundle) == CAPITAL[1]
    assert bundle.manifest.provenance.options["without"] == [name]
    counts = Counter(node.op_type for node in first_graph(bundle))
    if name in KERNELS:
        assert counts[KERNELS[name]] == 0
    elif weights == "int4":  # pack_qkv: seven products a layer, and the LM head
        assert counts["MatMulNBits"] == 7 * bundle.manifest.model.num_hidden_layers + 1


def test_without_any_rewrite_that_can_be_left_out(exported: Bundle, tmp_path: Path) -> None:
    bundle = compile_bundle(
        exported, tmp_path / "out", Choices(weights="fp32", without=tuple(SWITCHES)), report=silent
    )
    assert answer(bundle) == CAPITAL[1]
    assert not any(node.domain for node in first_graph(bundle))


def test_what_needs_a_rewrite_goes_with_it(exported: Bundle) -> None:
    profile = exported_profile(exported).model_copy(update={"weights": "int4"})
    names = [rewrite.name for rewrite in choose_passes(profile, ["free_dimensions"])]
    assert names == ["quantize_weights", "float32", "fuse_norms"]
    assert choose_passes(profile, []) == list(PASSES)


def test_every_need_is_a_rewrite_of_the_list() -> None:
    names = [rewrite.name for rewrite in PASSES]
    assert len(set(names)) == len(names)
    assert {need for rewrite in PASSES for need in rewrite.needs} <= set(names)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("float32", "the exported bundle computes in float16"),
        ("quantize_weights", "give --weights fp32"),
        ("fuse_morns", "got fuse_morns; allowed: grouped_query_attention, pack_qkv"),
    ],
)
def test_what_cannot_be_left_out_is_refused(
    name: str, says: str, exported: Bundle, tmp_path: Path
) -> None:
    with pytest.raises(TargetError, match=says):
        compile_bundle(exported, tmp_path / "out", Choices(without=(name,)), report=silent)
    assert list(tmp_path.iterdir()) == []
