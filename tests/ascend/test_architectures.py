"""Claims about architectures on a chip: biases, norms of heads and tied heads, as transformers."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel

from export.exporter import export_bundle
from profiles import load_profile
from runtime.bundle.reader import Bundle
from runtime.engine.engine import Engine
from runtime.engine.generate import generate
from runtime.engine.scheduler import Scheduler
from runtime.engine.sequence import Request
from runtime.progress import SILENT
from runtime.sampling.params import SamplingParams
from runtime.sessions import open_session
from tests.acceptance.beside_transformers import export_family, greedy
from tests.ascend.conftest import Toolkit
from tests.ascend.tokens import SOC, Card
from tests.export.families import save_family
from tests.export.test_architectures import GRAPHS
from tests.paths import DATA
from toolchain.choices import Choices
from toolchain.compiler import compile_bundle

pytestmark = pytest.mark.slow
NUM_TOKENS = 20
# As in tests/export/test_architectures.py.
BOUNDS = {"fp16": 0.003, "int8": 0.06}


@dataclass(frozen=True)
class Family:
    theirs: PreTrainedModel
    exported: Bundle


@pytest.fixture(scope="module", params=["Qwen 2.5", "Qwen 3", "Llama 3", "Llama 2, YaRN"])
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    folder = tmp_path_factory.mktemp("family")
    theirs = save_family(request.param, folder / "model")
    profile = load_profile(str(DATA / "small.toml")).model_copy(update={"graphs": GRAPHS})
    return Family(theirs, export_bundle(folder / "model", profile, folder / "exported", SILENT))


@pytest.mark.parametrize("weights", BOUNDS)
@pytest.mark.parametrize("target", SOC)
def test_logits_along_greedy_tokens_are_those_of_transformers(
    target: str, weights: str, family: Family, toolkit: Toolkit, card: Card, tmp_path: Path
) -> None:
    toolkit()
    choices = Choices(target=target, weights=weights, via="onnx")
    bundle = compile_bundle(family.exported, tmp_path / "out", choices, progress=SILENT)
    card(soc_name=SOC[target])
    prompt = list(range(40, 53))
    params = SamplingParams(max_tokens=NUM_TOKENS, ignore_eos=True)
    with closing(open_session(bundle)) as session:
        request = Request(prompt_ids=prompt, params=params, keep_logits=True)
        tokens = list(generate(Scheduler(Engine(session)), request))
    ours = np.stack([token.logits for token in tokens if token.logits is not None])
    ids = torch.tensor([prompt + [token.id for token in tokens]])
    with torch.no_grad():
        theirs = family.theirs(ids).logits[0, len(prompt) - 1 : -1].numpy()
    assert np.mean((ours - theirs) ** 2) <= BOUNDS[weights] ** 2 * np.mean(theirs**2)


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
