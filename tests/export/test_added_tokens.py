"""A model with added tokens, from its checkpoint to its answers: ids keep their text."""

import json
import shutil
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import LlamaTokenizer

from export.exporter import export_bundle
from export.parameters import EMBEDDING, LM_HEAD
from profiles import load_profile
from runtime.bundle.reader import ADDED_TOKENS, Bundle, load_bundle
from runtime.completion import Completion, complete
from runtime.engine.engine import Engine
from runtime.engine.scheduler import Scheduler
from runtime.sampling.defaults import default_params
from runtime.sessions import open_session
from runtime.text.from_bundle import open_tokenizer
from runtime.text.template import Message
from tests.dialogues import CAPITAL
from tests.paths import DATA
from toolchain.choices import Choices
from toolchain.compiler import compile_bundle
from toolchain.errors import TargetError
from toolchain.verify.stages import Stage, verify

PIECES, DESK, THINK, END = 640, 641, 642, 643
NAMES = {"<|a|>": 640, "【客服】": DESK, "<think>": THINK, "<|end|>": END}


@dataclass(frozen=True, slots=True)
class Model:
    checkpoint: Path
    compiled: Bundle


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, miniature_dir: Path) -> Model:
    """The miniature with eight rows more, three of which come up in its best known answer.

    The head of an added token is the one of a piece of the answer, only larger.
    """
    folder = tmp_path_factory.mktemp("added")
    checkpoint = folder / "model"
    checkpoint.mkdir()
    shutil.copy(miniature_dir / "tokenizer.model", checkpoint)
    plain = LlamaTokenizer.from_pretrained(miniature_dir)
    answer = plain.encode(CAPITAL[1], add_special_tokens=False)
    weights: dict[str, torch.Tensor] = {}
    for shard in miniature_dir.glob("*.bin"):
        weights |= torch.load(shard, weights_only=True)
    for name in (EMBEDDING, LM_HEAD):
        weights[name] = torch.cat([weights[name], weights[name][:8]])
    for token_id, piece in {DESK: answer[2], THINK: answer[4], END: answer[6]}.items():
        weights[LM_HEAD][token_id] = weights[LM_HEAD][piece] * 1.5
        weights[EMBEDDING][token_id] = weights[EMBEDDING][piece]
    save_file({n: w.contiguous() for n, w in weights.items()}, checkpoint / "model.safetensors")
    config = json.loads((miniature_dir / "config.json").read_text())
    write(checkpoint, "config.json", {**config, "vocab_size": PIECES + 8})
    write(checkpoint, "generation_config.json", {"eos_token_id": [2, END]})
    write(checkpoint, "added_tokens.json", NAMES)
    write(checkpoint, "special_tokens_map.json", {"cls_token": "<think>", "eos_token": "</s>"})
    profile = load_profile(str(DATA / "talk.toml"))
    exported = export_bundle(checkpoint, profile, folder / "exported")
    compiled = compile_bundle(exported, folder / "fp32", choices=Choices(weights="fp32"))
    return Model(checkpoint, load_bundle(compiled.path))


def write(model: Path, name: str, content: object) -> None:
    (model / name).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def answer_of(model: Model) -> Completion:
    tokenizer = open_tokenizer(model.compiled)
    params = default_params(model.compiled, tokenizer.eos_token_id)
    with closing(open_session(model.compiled)) as session:
        return complete(
            Scheduler(Engine(session)),
            tokenizer,
            [Message(role="user", content=CAPITAL[0])],
            params,
        )


def test_an_added_token_is_said_hidden_or_the_end_as_its_flags_say(model: Model) -> None:
    completion = answer_of(model)
    assert (completion.token_ids[2], completion.token_ids[4]) == (DESK, THINK)
    assert completion.token_ids[-1] == END, "generation_config.json names two ends"
    assert (completion.finish_reason, len(completion.token_ids)) == ("stop", 7)
    theirs = LlamaTokenizer.from_pretrained(model.checkpoint)
    said = theirs.decode(completion.token_ids[:-1], skip_special_tokens=True)
    assert completion.text == said.removeprefix(" ")
    assert "【客服】" in completion.text
    assert "<think>" not in completion.text, "it has a role, so it is special"
    assert "<|end|>" not in completion.text, "what ends an answer is no part of it"


def test_the_manifest_lists_the_file_of_added_tokens_and_compile_keeps_it(model: Model) -> None:
    assert ADDED_TOKENS in model.compiled.manifest.files
    exported = load_bundle(model.compiled.path.parent / "exported")
    files = (exported.manifest.files, model.compiled.manifest.files)
    assert files[0][ADDED_TOKENS] == files[1][ADDED_TOKENS]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("added_tokens.json", {**NAMES, "<|a|>": 641, "【客服】": 640}),
        ("added_tokens.json", {"【客服】": DESK}),
        ("special_tokens_map.json", {"eos_token": "</s>"}),
    ],
)
def test_verify_refuses_a_bundle_with_other_added_tokens(
    model: Model, tmp_path: Path, name: str, content: object
) -> None:
    other = shutil.copytree(model.checkpoint, tmp_path / "model")
    write(other, name, content)
    profile = load_profile(str(DATA / "talk.toml"))
    with pytest.raises(TargetError, match=r"another tokenizer than .*: added_tokens\.json"):
        verify([Stage(model.compiled)], other, profile, [[1, 300, 400, 500]])


def test_verify_refuses_a_bundle_with_another_tokenizer(
    model: Model, bundles: Path, tmp_path: Path
) -> None:
    other = shutil.copytree(bundles / "checkpoint", tmp_path / "model")
    data = (other / "tokenizer.model").read_bytes()
    (other / "tokenizer.model").write_bytes(data + b"\x1a\x02\x18\x00")  # no space before a text
    bundle = load_bundle(bundles / "small-fp32")
    profile = load_profile(str(DATA / "small.toml"))
    with pytest.raises(TargetError, match=r"another tokenizer than .*: tokenizer\.model; got sha"):
        verify([Stage(bundle)], other, profile, [[1, 300, 400, 500]])
