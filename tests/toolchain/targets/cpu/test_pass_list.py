"""The list of passes: each can be disabled, and the bundle still answers word for word."""

from collections import Counter
from contextlib import closing
from pathlib import Path

import onnx_ir as ir
import pytest
from typer.testing import CliRunner

from profiles.profile import exported_profile
from runtime.bundle.reader import TOKENIZER, Bundle, load_bundle
from runtime.completion import complete
from runtime.engine.engine import Engine
from runtime.engine.scheduler import Scheduler
from runtime.kernels.layout import OPERATOR
from runtime.progress import SILENT
from runtime.sampling.params import SamplingParams
from runtime.sessions import open_session
from runtime.text.sentencepiece_tokenizer import SentencePieceTokenizer
from runtime.text.template import Message
from tests.dialogues import CAPITAL
from toolchain.choices import Choices
from toolchain.cli import app
from toolchain.compiler import compile_bundle
from toolchain.errors import TargetError
from toolchain.targets.ascend import passes as ascend
from toolchain.targets.cpu.passes import PASSES, cpu_passes
from toolchain.targets.pass_list import switches

SWITCHES = [each.name for each in switches(PASSES)]
# What a graph has none of when the pass was disabled.
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
        tokenizer = SentencePieceTokenizer(bundle.file(TOKENIZER))
        params = SamplingParams(stop_token_ids=(tokenizer.eos_token_id,))
        question = [Message(role="user", content=CAPITAL[0])]
        return complete(Scheduler(Engine(session)), tokenizer, question, params).text


@pytest.mark.parametrize("weights", ["int4", "fp32"])
@pytest.mark.parametrize("name", SWITCHES)
def test_a_bundle_without_one_pass_answers_the_same(
    name: str, weights: str, exported: Bundle, tmp_path: Path
) -> None:
    bundle = compile_bundle(
        exported, tmp_path / "out", Choices(weights=weights, without=(name,)), progress=SILENT
    )
    assert answer(bundle) == CAPITAL[1]
    assert bundle.manifest.provenance.options["without"] == [name]
    counts = Counter(node.op_type for node in first_graph(bundle))
    if name in KERNELS:
        assert counts[KERNELS[name]] == 0
    elif weights == "int4":  # pack_qkv: seven products a layer, and the LM head
        product = "MatMulNBits" if bundle.manifest.kernels is None else OPERATOR
        assert counts[product] == 7 * bundle.manifest.model.num_hidden_layers + 1


def test_without_any_pass_that_can_be_disabled(exported: Bundle, tmp_path: Path) -> None:
    bundle = compile_bundle(
        exported,
        tmp_path / "out",
        Choices(weights="fp32", without=tuple(SWITCHES)),
        progress=SILENT,
    )
    assert answer(bundle) == CAPITAL[1]
    assert not any(node.domain for node in first_graph(bundle))


def test_what_needs_a_pass_goes_with_it(exported: Bundle) -> None:
    profile = exported_profile(exported).model_copy(update={"weights": "int4", "kernels": "own"})
    names = [each.name for each in cpu_passes(profile, ["free_dimensions"])]
    assert names == ["quantize_weights", "float32", "own_kernels", "fuse_norms"]
    assert cpu_passes(profile, []) == list(PASSES)


def test_every_need_is_a_pass_of_the_list() -> None:
    names = [each.name for each in PASSES]
    assert len(set(names)) == len(names)
    assert {need for each in PASSES for need in each.needs} <= set(names)


def test_without_help_lists_what_can_be_disabled_and_compiles_nothing(
    exported: Bundle, tmp_path: Path
) -> None:
    """Also where the bundle or the output is not given yet."""
    given = ["compile", str(exported.path), "-o", str(tmp_path / "out"), "--without", "help"]
    for arguments in (given, ["compile", "--without", "help"]):
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0
        lists = result.stdout.split(":\n")[1:]
        listed = [
            [line.split()[0] for line in part.splitlines() if line[0] == " "] for part in lists
        ]
        assert listed == [SWITCHES, ["none"], [each.name for each in switches(ascend.PASSES)]]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("float32", "the exported bundle computes in float16"),
        ("quantize_weights", "give --weights fp32"),
        ("fuse_morns", "got fuse_morns; allowed: grouped_query_attention, pack_qkv"),
    ],
)
def test_what_cannot_be_disabled_is_refused(
    name: str, says: str, exported: Bundle, tmp_path: Path
) -> None:
    with pytest.raises(TargetError, match=says):
        compile_bundle(exported, tmp_path / "out", Choices(without=(name,)), progress=SILENT)
    assert list(tmp_path.iterdir()) == []
