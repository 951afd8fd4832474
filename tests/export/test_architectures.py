"""Claims about architectures: each family gives transformers' logits and greedy text on a CPU."""

import json
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from transformers import AutoConfig, PreTrainedModel

from export.checkpoint import open_checkpoint
from export.config import check_context, load_config
from export.errors import CheckpointError, ConfigError
from export.exporter import export_bundle
from export.reference import Reference
from export.rope_settings import num_positions
from profiles import load_profile
from runtime.bundle.manifest import GraphSpec
from runtime.bundle.reader import Bundle
from runtime.engine.engine import Engine
from runtime.engine.generate import generate
from runtime.engine.scheduler import Scheduler
from runtime.engine.sequence import Request
from runtime.progress import SILENT
from runtime.sampling.params import SamplingParams
from runtime.sessions import open_session
from tests.export.families import FAMILIES, SIZES, VOCABULARY, save_family
from tests.paths import DATA
from toolchain.choices import Choices
from toolchain.compiler import compile_bundle
from toolchain.verify.eager import open_eager

TOLERANCE = 1e-4
NUM_TOKENS = 64
GRAPHS = (
    GraphSpec(phase="prefill", batch_size=1, seq_len=8, cache_len=80),
    GraphSpec(phase="decode", batch_size=1, seq_len=1, cache_len=80),
)
# How far logits of rounded models may be from transformers' in float32: the root of the mean square
# of the differences, over that of the logits. At most two thirds of each were seen.
BOUNDS = {"int8": 0.09, "int4": 0.7, "int8, int8 cache": 0.19}
CHOICES = {
    "fp32": Choices(weights="fp32"),
    "int8": Choices(weights="int8"),
    "int4": Choices(weights="int4"),
    "int8, int8 cache": Choices(weights="int8", kv_cache="int8"),
}
pytestmark = pytest.mark.usefixtures("one_torch_thread")


@dataclass(frozen=True)
class Family:
    """A checkpoint, transformers' model of it in float32, and what was exported."""

    name: str
    checkpoint: Path
    theirs: PreTrainedModel
    exported: Bundle

    def logits(self, ids: list[int]) -> np.ndarray:
        with torch.no_grad():
            logits: np.ndarray = self.theirs(torch.tensor([ids])).logits[0].numpy()
        return logits


@pytest.fixture(scope="module", params=list(FAMILIES))
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    folder = tmp_path_factory.mktemp("family")
    theirs = save_family(request.param, folder / "model")
    small = load_profile(str(DATA / "small.toml"))
    profile = small.model_copy(update={"graphs": GRAPHS})
    exported = export_bundle(folder / "model", profile, folder / "exported", SILENT)
    return Family(request.param, folder / "model", theirs, exported)


def ids_of(length: int) -> list[int]:
    generator = torch.Generator().manual_seed(3)
    ids: list[int] = torch.randint(3, VOCABULARY, (length,), generator=generator).tolist()
    return ids


def test_the_reference_of_verify_is_transformers(family: Family) -> None:
    ids = ids_of(40)
    reference = Reference(family.checkpoint)
    [hidden] = reference.hidden([ids])
    np.testing.assert_allclose(reference.logits(hidden), family.logits(ids), atol=TOLERANCE)


@pytest.mark.parametrize("precision", CHOICES)
def test_logits_along_64_greedy_tokens_are_those_of_transformers(
    precision: str, family: Family, tmp_path: Path
) -> None:
    """In float32 the tokens too; a rounded model goes its own way, and is judged along that."""
    bundle = compile_bundle(family.exported, tmp_path / "out", CHOICES[precision], progress=SILENT)
    prompt = ids_of(13)
    params = SamplingParams(max_tokens=NUM_TOKENS, ignore_eos=True)
    with closing(open_session(bundle)) as session:
        request = Request(prompt_ids=prompt, params=params, keep_logits=True)
        tokens = list(generate(Scheduler(Engine(session)), request))
    ours = np.stack([token.logits for token in tokens if token.logits is not None])
    theirs = family.logits(prompt + [token.id for token in tokens])[len(prompt) - 1 : -1]
    assert ours.shape == (NUM_TOKENS, VOCABULARY)
    if precision == "fp32":
        np.testing.assert_allclose(ours, theirs, atol=TOLERANCE, rtol=0)
        assert [token.id for token in tokens] == theirs.argmax(-1).tolist()
    else:
        assert np.mean((ours - theirs) ** 2) <= BOUNDS[precision] ** 2 * np.mean(theirs**2)


def test_torch_programs_give_the_logits_too(family: Family) -> None:
    """In float16, whose rounding is a thousandth."""
    with closing(open_eager(family.exported)) as session:
        prompt = ids_of(13)
        params = SamplingParams(max_tokens=4, ignore_eos=True)
        request = Request(prompt_ids=prompt, params=params, keep_logits=True)
        tokens = list(generate(Scheduler(Engine(session)), request))
    ours = np.stack([token.logits for token in tokens if token.logits is not None])
    theirs = family.logits(prompt + [token.id for token in tokens])[len(prompt) - 1 : -1]
    np.testing.assert_allclose(ours, theirs, atol=0.03, rtol=0)


def changed(family_name: str, folder: Path, changes: dict[str, object]) -> Path:
    """A config.json of a family with other values."""
    kind, own = FAMILIES[family_name]
    AutoConfig.for_model(kind.lower(), **SIZES | own).save_pretrained(folder)
    file = folder / "config.json"
    values = json.loads(file.read_text()) | {"architectures": [f"{kind}ForCausalLM"]} | changes
    file.write_text(json.dumps(values))
    return folder


def test_a_window_is_as_many_positions_as_are_right_without_one(tmp_path: Path) -> None:
    config = load_config(changed("Mistral", tmp_path, {}))
    assert num_positions(config) == 200
    profile = load_profile("cpu")
    for rows, fits in ((200, True), (201, False)):
        graphs = (GraphSpec(phase="decode", batch_size=1, seq_len=1, cache_len=rows),)
        sized = profile.model_copy(update={"graphs": graphs})
        if fits:
            check_context(config, sized)
        else:
            with pytest.raises(ConfigError, match=r"got 201; allowed: up to 200; lower cache_len"):
                check_context(config, sized)


@pytest.mark.parametrize(
    ("family_name", "changes", "message"),
    [
        ("Qwen 2.5", {"use_sliding_window": True}, "use_sliding_window; got True; allowed: False"),
        ("Qwen 2.5", {"model_type": "qwen3"}, "model_type; got qwen3; allowed: qwen2"),
        ("Qwen 3", {"attention_bias": True}, "attention_bias; got True; allowed: False"),
        ("Qwen 3", {"layer_types": ["sliding_attention"] * 3}, "layer_types; got"),
        ("Mistral", {"sliding_window": 0}, "sliding_window: Input should be greater"),
        ("Llama 3", {"sliding_window": 64}, "sliding_window; got 64; allowed: None"),
        ("Llama 3", {"architectures": ["Gemma3ForCausalLM"]}, "or ['Qwen3ForCausalLM']"),
    ],
)
def test_what_the_decoder_cannot_do_is_refused_for_each_family(
    tmp_path: Path, family_name: str, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(changed(family_name, tmp_path, changes))
    assert message in str(caught.value)


def test_a_bias_that_the_checkpoint_lacks_is_named(tmp_path: Path) -> None:
    save_family("Qwen 2.5", tmp_path)
    file = tmp_path / "model.safetensors"
    state = safetensors.torch.load(file.read_bytes())
    del state["model.layers.1.self_attn.k_proj.bias"]
    safetensors.torch.save_file(state, file)
    with pytest.raises(CheckpointError, match=r"lacks model\.layers\.1\.self_attn\.k_proj\.bias"):
        open_checkpoint(tmp_path, load_config(tmp_path))
