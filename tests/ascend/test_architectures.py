"""Claims about architectures on a chip: biases, norms of heads and tied heads, as transformers."""

from pathlib import Path

import pytest

from runtime.progress import SILENT
from runtime.sessions import open_session
from tests.acceptance.beside_transformers import Family, export_family, greedy
from tests.ascend.conftest import Toolkit
from tests.ascend.tokens import SOC, Card
from toolchain.choices import Choices
from toolchain.compiler import compile_bundle

pytestmark = pytest.mark.slow
# As in tests/export/test_architectures.py.
BOUNDS = {"fp16": 0.003, "int8": 0.06}


@pytest.fixture(scope="module", params=["Qwen 2.5", "Qwen 3", "Llama 3", "Llama 2, YaRN"])
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    return export_family(request.param, tmp_path_factory.mktemp("family"))


@pytest.mark.parametrize("weights", BOUNDS)
@pytest.mark.parametrize("target", SOC)
def test_logits_along_greedy_tokens_are_those_of_transformers(
    target: str, weights: str, family: Family, toolkit: Toolkit, card: Card, tmp_path: Path
) -> None:
    toolkit()
    choices = Choices(target=target, weights=weights, via="onnx")
    bundle = compile_bundle(family.exported, tmp_path / "out", choices, progress=SILENT)
    card(soc_name=SOC[target])
    said = greedy(open_session(bundle), num_tokens=20)
    assert said.relative(said.theirs(family.theirs)) <= BOUNDS[weights]


def test_an_old_cann_computes_norms_of_heads_in_every_gear(
    toolkit: Toolkit, card: Card, tmp_path: Path
) -> None:
    """Of graphs of 8, 4 and 1 rows one is made, in which no size may be that of the longest."""
    toolkit(cann_version="8.3.RC1")
    family = export_family("Qwen 3", tmp_path)
    choices = Choices(target="310p3", weights="fp16")
    bundle = compile_bundle(family.exported, tmp_path / "out", choices, progress=SILENT)
    card(soc_name=SOC["310p3"])
    said = greedy(open_session(bundle))
    assert {graph.path for graph in bundle.manifest.graphs} == {"graphs/decoder.om"}
    assert said.relative(said.theirs(family.theirs)) <= BOUNDS["fp16"]
