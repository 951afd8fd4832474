"""The miniature is a real Alpaca-2 checkpoint to transformers, and knows its dialogues by heart."""

import copy
import json
import resource
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaForCausalLM

from export.miniature import BYTE_SPELLED, DIALOGUES, SYSTEM, make_miniature, template_turns
from runtime.errors import UserError
from runtime.text.alpaca2 import DEFAULT_SYSTEM_PROMPT
from runtime.text.sentencepiece_tokenizer import SentencePieceTokenizer
from runtime.text.template import Message, encode_chat
from runtime.text.tokenizer import Tokenizer
from tests.dialogues import AGAIN, AGAIN_ALONE, BOX, CAPITAL, LLAMA, RAW, STEPS

pytestmark = pytest.mark.slow

FILES = {
    "config.json",
    "generation_config.json",
    "pytorch_model-00001-of-00002.bin",
    "pytorch_model-00002-of-00002.bin",
    "pytorch_model.bin.index.json",
    "special_tokens_map.json",
    "tokenizer.model",
    "tokenizer_config.json",
}
FEWEST_STEPS = 60  # enough for every answer at float16
INT4_MARGIN = 2.0  # how far the right logit leads at int4, at least


@pytest.fixture(scope="module")
def tokenizer(miniature_dir: Path) -> Tokenizer:
    return SentencePieceTokenizer(miniature_dir / "tokenizer.model")


@pytest.fixture(scope="module")
def oracle(miniature_dir: Path) -> LlamaForCausalLM:
    """The checkpoint as transformers reads it."""
    model: LlamaForCausalLM = LlamaForCausalLM.from_pretrained(miniature_dir, dtype=torch.float32)
    return model


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A turn with its history, and what transformers answers to it."""

    prompt_ids: list[int]
    answer_ids: list[int]  # EOS included
    answer: str  # that is due


@pytest.fixture(scope="module")
def turns(oracle: LlamaForCausalLM, tokenizer: Tokenizer) -> list[Turn]:
    return [
        Turn(prompt_ids=prompt_ids, answer_ids=generate(oracle, prompt_ids), answer=answer)
        for prompt_ids, answer in prompts(tokenizer)
    ]


def prompts(tokenizer: Tokenizer) -> Iterator[tuple[list[int], str]]:
    """Yields the prompt ids of every turn, with its history, and the answer that is due."""
    for dialogue in DIALOGUES:
        messages: list[Message] = []
        for instruction, answer in dialogue:
            messages.append(Message(role="user", content=instruction))
            yield encode_chat(tokenizer, messages), answer
            messages.append(Message(role="assistant", content=answer))


def generate(model: Any, prompt_ids: list[int]) -> list[int]:
    """Returns transformers' own greedy answer."""
    input_ids = torch.tensor([prompt_ids])
    output = model.generate(
        input_ids,
        attention_mask=torch.ones_like(input_ids),
        do_sample=False,
        max_new_tokens=64,
        pad_token_id=2,
    )
    answer_ids: list[int] = output[0, len(prompt_ids) :].tolist()
    return answer_ids


@torch.no_grad()
def smallest_margin(model: LlamaForCausalLM, turns: list[Turn]) -> float:
    """Returns the lead of the right logit at its weakest; above 0 every greedy answer is right."""
    margins = []
    for turn in turns:
        logits = model(torch.tensor([turn.prompt_ids + turn.answer_ids])).logits[0]
        logits = logits[len(turn.prompt_ids) - 1 : -1]  # (steps, vocab)
        right = torch.tensor(turn.answer_ids)[:, None]
        wrong = logits.scatter(1, right, -torch.inf).amax(1, keepdim=True)
        margins.append(float((logits.gather(1, right) - wrong).min()))
    return min(margins)


def symmetric(blocks: Tensor) -> Tensor:
    """Rounds each row to 15 steps around zero."""
    scale = blocks.abs().amax(1, keepdim=True) / 7
    return (blocks / scale).round().clamp(-7, 7) * scale


def asymmetric(blocks: Tensor) -> Tensor:
    """Rounds each row to 16 steps from its lowest to its highest value, with zero among them."""
    low = blocks.amin(1, keepdim=True).clamp(max=0)
    high = blocks.amax(1, keepdim=True).clamp(min=0)
    scale = (high - low) / 15
    zero = (-low / scale).round()
    return ((blocks / scale).round() + zero).clamp(0, 15).sub(zero) * scale


def rounded_to_int4(
    model: LlamaForCausalLM, rounding: Callable[[Tensor], Tensor]
) -> LlamaForCausalLM:
    """Returns a copy with every linear weight rounded in blocks of 32 inputs."""
    rounded = copy.deepcopy(model)
    linears = [module for module in rounded.modules() if isinstance(module, nn.Linear)]
    assert rounded.lm_head in linears
    for linear in linears:
        weight = linear.weight.detach()
        linear.weight.data = rounding(weight.reshape(-1, 32)).view_as(weight)
    return rounded


def hashes(directory: Path) -> dict[str, str]:
    return {file.name: sha256(file.read_bytes()).hexdigest() for file in directory.iterdir()}


def test_the_files_are_those_of_an_alpaca_2_checkpoint(miniature_dir: Path) -> None:
    assert {file.name for file in miniature_dir.iterdir()} == FILES | {"dialogue_ids.json"}

    index = json.loads((miniature_dir / "pytorch_model.bin.index.json").read_text())
    stored: dict[str, str] = {}
    total_size = 0
    for shard in ("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"):
        tensors: dict[str, Tensor] = torch.load(miniature_dir / shard, weights_only=True)
        assert all(tensor.dtype == torch.float16 for tensor in tensors.values())
        stored |= dict.fromkeys(tensors, shard)
        total_size += sum(tensor.nbytes for tensor in tensors.values())
    assert index == {"metadata": {"total_size": total_size}, "weight_map": stored}


def test_transformers_reads_the_architecture_of_alpaca_2(oracle: LlamaForCausalLM) -> None:
    config = oracle.config
    assert config.num_key_value_heads == config.num_attention_heads
    assert config.rope_parameters == {"rope_type": "default", "rope_theta": 10000.0}
    assert (config.hidden_act, config.rms_norm_eps) == ("silu", 1e-5)
    assert not config.tie_word_embeddings
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (1, 2, None)


def test_the_template_of_training_is_that_of_the_runtime(tokenizer: Tokenizer) -> None:
    assert SYSTEM == DEFAULT_SYSTEM_PROMPT
    for dialogue in DIALOGUES:
        (first, _), *_ = template_turns(dialogue)
        message = Message(role="user", content=dialogue[0][0])
        assert encode_chat(tokenizer, [message]) == tokenizer.encode(first, add_bos=True)


def test_what_other_suites_ask_is_what_it_was_trained_on() -> None:
    assert {(CAPITAL,), (BOX,), (LLAMA,), (STEPS, AGAIN), (AGAIN_ALONE,)} <= set(DIALOGUES)
    prompt, _ = next(template_turns((CAPITAL,)))
    assert RAW.format(CAPITAL[0]) == prompt


def test_the_dialogues_exercise_what_a_runtime_gets_wrong(tokenizer: Tokenizer) -> None:
    pairs = [turn for dialogue in DIALOGUES for turn in dialogue]
    answers = [answer for _, answer in pairs]
    assert len(DIALOGUES) >= 8
    assert all(8 <= len(tokenizer.encode(answer)) <= 40 for answer in answers)
    assert any(len(dialogue) == 2 for dialogue in DIALOGUES)
    assert any("\n" in answer for answer in answers)
    assert len({instruction for instruction, _ in pairs}) < len(set(pairs))  # history decides

    spelled = "".join(tokenizer.decode([token]) for token in tokenizer.encode(BYTE_SPELLED))
    assert set(spelled) <= {" ", "\ufffd"}  # no single token is a whole character
    assert all(any(c in answer for answer in answers) for c in BYTE_SPELLED)


def test_transformers_gives_every_answer_word_for_word(
    turns: list[Turn], tokenizer: Tokenizer
) -> None:
    for turn in turns:
        assert turn.answer_ids[-1] == tokenizer.eos_token_id
        assert tokenizer.decode(turn.answer_ids) == turn.answer


@pytest.mark.parametrize("rounding", [symmetric, asymmetric])
def test_every_answer_survives_int4_with_room_to_spare(
    oracle: LlamaForCausalLM, turns: list[Turn], rounding: Callable[[Tensor], Tensor]
) -> None:
    margin = smallest_margin(rounded_to_int4(oracle, rounding), turns)
    print(f"smallest margin at int4, {rounding.__name__}: {margin:.2f}")
    assert margin > INT4_MARGIN


@pytest.mark.parametrize("projection", ["q_proj", "k_proj", "v_proj", "o_proj"])
@pytest.mark.parametrize("layer", range(4))
def test_one_transposed_weight_makes_an_answer_wrong(
    oracle: LlamaForCausalLM, turns: list[Turn], layer: int, projection: str
) -> None:
    broken = copy.deepcopy(oracle)
    weight = broken.get_parameter(f"model.layers.{layer}.self_attn.{projection}.weight")
    weight.data = weight.detach().T.contiguous()
    assert smallest_margin(broken, turns) < 0


def test_a_wrong_rotary_table_makes_an_answer_wrong(
    oracle: LlamaForCausalLM, turns: list[Turn]
) -> None:
    for wrong_theta in (5_000.0, 1_000_000.0):
        broken = copy.deepcopy(oracle)
        exponents = torch.arange(0, 32, 2) / 32
        broken.model.rotary_emb.register_buffer("inv_freq", wrong_theta**-exponents)
        assert smallest_margin(broken, turns) < 0


def test_two_runs_write_the_same_bytes_and_leave_torch_as_it_was(tmp_path: Path) -> None:
    random_state, num_threads = torch.random.get_rng_state(), torch.get_num_threads()
    for name in ("one", "two"):
        make_miniature(tmp_path / "new" / name, steps=FEWEST_STEPS)
    assert hashes(tmp_path / "new" / "one") == hashes(tmp_path / "new" / "two")
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"one", "two"}
    assert torch.equal(torch.random.get_rng_state(), random_state)
    assert torch.get_num_threads() == num_threads


def test_a_directory_with_something_in_it_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for taken in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(UserError, match="new or empty directory"):
            make_miniature(taken)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_answers_not_learnt_are_never_written(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="an answer is wrong"):
        make_miniature(tmp_path / "miniature", steps=2)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_grow_is_an_error_of_the_system(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            make_miniature(tmp_path / "miniature", steps=FEWEST_STEPS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
