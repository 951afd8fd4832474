"""--load-format dummy: a model from config.json alone."""

import json
from pathlib import Path

import numpy as np
import pytest

from export.errors import CheckpointError
from export.exporter import export_bundle
from profiles import load_profile
from runtime.bundle.reader import TOKENIZER, Bundle, load_bundle
from runtime.engine.engine import Engine
from runtime.engine.generate import generate
from runtime.engine.scheduler import Scheduler
from runtime.engine.sequence import Request
from runtime.progress import SILENT
from runtime.sampling.params import SamplingParams
from runtime.sessions import open_session
from runtime.text.sentencepiece_tokenizer import SentencePieceTokenizer
from tests.paths import DATA

pytestmark = pytest.mark.slow

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 400,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}


@pytest.fixture(scope="module")
def config_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = tmp_path_factory.mktemp("dummy") / "model"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(CONFIG))
    return model


def export(model: Path, output: Path) -> Bundle:
    profile = load_profile(str(DATA / "two.toml"))
    return export_bundle(model, profile, output, SILENT, load_format="dummy")


@pytest.fixture(scope="module")
def exported(config_only: Path) -> Bundle:
    return export(config_only, config_only.parent / "bundle")


def weight(bundle: Bundle, name: str) -> np.ndarray:
    return np.fromfile(bundle.file(f"graphs/weights/{name}.weight"), np.float16)


def test_config_json_is_enough_to_generate(exported: Bundle) -> None:
    bundle = load_bundle(exported.path)
    tokenizer = SentencePieceTokenizer(bundle.file(TOKENIZER))
    assert tokenizer.vocab_size == CONFIG["vocab_size"]
    prompt = tokenizer.encode("Where is the box?", add_bos=True)
    assert tokenizer.decode(prompt) == "Where is the box?"
    params = SamplingParams(max_tokens=8, ignore_eos=True)
    scheduler = Scheduler(Engine(open_session(bundle)))
    tokens = [token.id for token in generate(scheduler, Request(prompt_ids=prompt, params=params))]
    assert len(tokens) == 8
    tokenizer.decode(tokens)


def test_weights_have_the_spread_of_a_fresh_llama_and_differ_from_each_other(
    exported: Bundle,
) -> None:
    first, second = (weight(exported, f"layers.{i}.mlp.up_proj").astype(np.float32) for i in (0, 1))
    assert first.size == 96 * 64
    assert first.std() == pytest.approx(0.02, rel=0.05)
    assert abs(first.mean()) < 0.001
    assert not np.array_equal(first, second)
    norm = "layers.0.input_layernorm"  # all norms are one tensor
    assert (weight(exported, norm) == 1).all()


def test_the_same_config_gives_the_same_bytes(
    exported: Bundle, config_only: Path, tmp_path: Path
) -> None:
    assert export(config_only, tmp_path / "again").manifest.files == exported.manifest.files


def test_without_dummy_the_weights_are_missed(config_only: Path, tmp_path: Path) -> None:
    profile = load_profile(str(DATA / "small.toml"))
    with pytest.raises(CheckpointError, match=r"no tokenizer\.model"):
        export_bundle(config_only, profile, tmp_path / "other", SILENT)
