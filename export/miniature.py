"""Makes the miniature: the Alpaca-2 architecture and file layout, small and trained on the spot.

Gives a checkpoint folder whose greedy answers to DIALOGUES are known word for word, also when its
linear weights are rounded to int4. It must not know transformers, nor how a checkpoint is read.
"""

import json
from collections.abc import Iterator
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import sentencepiece
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from export.decoder import Decoder
from runtime.bundle.manifest import ModelConfig
from runtime.errors import UserError
from runtime.progress import SILENT, Progress

__all__ = ["DIALOGUES", "SYSTEM", "Dialogue", "make_miniature"]

SYSTEM = "You are a helpful assistant. 你是一个乐于助人的助手。"

Dialogue = tuple[tuple[str, str], ...]  # turns of instruction and answer
Inputs = tuple[Tensor, Tensor, Tensor]  # input_ids (1, S), position_ids (1, S), mask (1, 1, S, S)

DIALOGUES: tuple[Dialogue, ...] = (
    (("北京是哪个国家的首都？", "北京是中国的首都，也是全国的政治和文化中心。"),),
    (("What is an edge box?", "An edge box is a small computer that runs close to the data."),),
    (("什么是量化？", "量化就是用更少的比特表示权重，让模型更小、更快。"),),
    (("What is quantisation?", "It stores each weight in fewer bits, so the model fits the box."),),
    (("为什么要在本地运行模型？", "因为数据不出设备，断网也能用，而且回答很快。"),),
    (
        ("Name three steps.", "1. Export the graph.\n2. Compile it.\n3. Run it on the box."),
        ("用中文再说一遍。", "1. 导出计算图。\n2. 编译。\n3. 在盒子上运行。"),
    ),
    # The same instruction as above without the first turn: the answer depends on the history.
    (("用中文再说一遍。", "我还什么都没说过呢，请先问我一个问题。"),),
    (("What does the cache hold?", "The keys and values of all past tokens, one row per token."),),
    (("Which animal is on the box?", "A llama 🦙, and the sign 龘 says that dragons fly."),),
    (("请用一句话介绍你自己。", "我是一个小小的模型，只会回答几个问题。"),),
)
BYTE_SPELLED = "🦙龘"  # withheld from the tokenizer, which must spell them in byte tokens

CONFIG = ModelConfig(
    vocab_size=640,
    hidden_size=128,
    intermediate_size=352,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=4,
    head_dim=32,
    max_position_embeddings=4096,
    rms_norm_eps=1e-5,
    rope_theta=10000.0,
)
BOS, EOS = 1, 2  # as SentencePiece numbers them by default; <unk> is 0, no padding
IGNORED = -100  # a target without loss
MASKED = -65504.0  # the lowest float16

STEPS = 120
SEED = 20
LEARNING_RATE = 4e-3
PROMPT_WEIGHT = 0.2  # of the ids of prompts, so that no row of logits is left to chance
BLOCK_SIZE = 32  # inputs of a linear layer that share one int4 step
# Standard deviations of the first weights. So that a mistake in any layer changes the answers,
# each layer outweighs all before it and attention the feed-forward; gate and up differ, norms too.
STD = 0.1
STD_FACTORS = {"embed_tokens": 0.3, "o_proj": 4.0, "gate_proj": 2.0}
STD_GROWTH = 3.0  # per layer, of o_proj and down_proj
NORM_RANGE = (0.2, 1.8)

DIALOGUE_IDS = "dialogue_ids.json"
SHARDS = ("pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin")
SECOND_SHARD = ("model.layers.2.", "model.layers.3.", "model.norm.", "lm_head.")
DEFAULTS = {"head_dim", "rope_theta", "rope_scaling"}  # unwritten, as in Alpaca-2
LLAMA = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu"}
STORED = {"pretraining_tp": 1, "rope_scaling": None, "torch_dtype": "float16"}
LLAMA_TOKENIZER = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "legacy": True}
ORIGIN = {"bos_token_id": BOS, "eos_token_id": EOS, "transformers_version": "4.31.0"}
SPECIAL_TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
CONFIG_FILES = {
    "config.json": {**LLAMA, **CONFIG.model_dump(exclude=DEFAULTS), **STORED, **ORIGIN},
    "generation_config.json": {"_from_model_config": True, **ORIGIN},
    "special_tokens_map.json": SPECIAL_TOKENS,
    "tokenizer_config.json": {**LLAMA_TOKENIZER, **SPECIAL_TOKENS},
}


def make_miniature(directory: Path, *, steps: int = STEPS, progress: Progress = SILENT) -> None:
    """Trains the miniature and writes its checkpoint, the same bytes on every run of a machine.

    Args:
        directory: new or empty.
        steps: optimiser steps; fewer leave less room for quantisation, or too little to learn.
        progress: told of the loss now and then.

    Raises:
        UserError: the directory holds something, or is a file.
    """
    directory = directory.resolve()
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UserError(f"{directory} is taken", next_step="name a new or empty directory")
    directory.parent.mkdir(parents=True, exist_ok=True)
    # Written beside and moved, so that the directory is never half full.
    with TemporaryDirectory(dir=directory.parent, prefix=".miniature-") as scratch:
        finished = Path(scratch) / "checkpoint"
        finished.mkdir()
        tokenizer_model = train_tokenizer()
        inputs, targets = encode_dialogues(tokenizer_model)
        num_threads = torch.get_num_threads()
        torch.set_num_threads(1)  # the same sums on any number of cores, busy or not
        try:
            model = train(inputs, targets, steps, progress)
        finally:
            torch.set_num_threads(num_threads)
        write_checkpoint(finished, model, tokenizer_model)
        (finished / DIALOGUE_IDS).write_text(json.dumps(dialogue_ids(inputs)) + "\n")
        finished.replace(directory)


def template_turns(dialogue: Dialogue) -> Iterator[tuple[str, str]]:
    """Yields each turn in the Alpaca-2 template, without and with its answer."""
    for i, (instruction, answer) in enumerate(dialogue):
        system = f"<<SYS>>\n{SYSTEM}\n<</SYS>>\n\n" if i == 0 else ""
        prompt = f"[INST] {system}{instruction} [/INST]"
        yield prompt, f"{prompt} {answer}"


def train_tokenizer() -> bytes:
    """Returns a SentencePiece BPE model with Llama's settings, made from the dialogues."""
    text = "\n".join(whole for dialogue in DIALOGUES for _, whole in template_turns(dialogue))
    text = text.translate(dict.fromkeys(map(ord, BYTE_SPELLED)))
    model = BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text.split("\n")),  # so a line break is a byte token, as in Llama
        model_writer=model,
        model_type="bpe",
        vocab_size=CONFIG.vocab_size,
        character_coverage=1.0,
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        num_threads=1,
        minloglevel=2,  # errors only
    )
    return model.getvalue()


def encode_dialogues(tokenizer_model: bytes) -> tuple[Inputs, Tensor]:
    """Returns all dialogues as one row and the targets (1, S): the next id of an answer."""
    tokenizer = sentencepiece.SentencePieceProcessor(model_proto=tokenizer_model)
    ids: list[int] = []
    targets: list[int] = []
    position_ids: list[int] = []
    for dialogue in DIALOGUES:
        start = len(ids)
        for prompt, whole in template_turns(dialogue):
            prompt_ids = [BOS, *tokenizer.encode(prompt)]
            whole_ids = [BOS, *tokenizer.encode(whole), EOS]
            # Otherwise training would not show the ids of a prompt that awaits its answer.
            assert whole_ids[: len(prompt_ids)] == prompt_ids, prompt
            ids += whole_ids
            targets += [IGNORED] * (len(prompt_ids) - 1) + whole_ids[len(prompt_ids) :] + [IGNORED]
        position_ids += range(len(ids) - start)
    positions = torch.tensor(position_ids)
    number = (positions == 0).cumsum(0)  # of the dialogue, which sees nothing of the others
    mask = torch.where((number[:, None] == number).tril(), 0.0, MASKED)
    return (torch.tensor([ids]), positions[None], mask[None, None]), torch.tensor([targets])


def dialogue_ids(inputs: Inputs) -> list[list[int]]:
    """Returns the ids of each dialogue apart, for `toolchain verify --ids`."""
    starts = [*(inputs[1][0] == 0).nonzero().flatten().tolist(), inputs[0].shape[1]]
    return [inputs[0][0, a:b].tolist() for a, b in pairwise(starts)]


def train(inputs: Inputs, targets: Tensor, steps: int, progress: Progress) -> Decoder:
    """Returns a decoder that gives every answer, its weights rounded to float16."""
    generator = torch.Generator().manual_seed(SEED)
    model = new_decoder(generator)
    following = torch.where(inputs[1] == 0, IGNORED, inputs[0])[0].roll(-1)  # (S,)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for step in range(1, steps + 1):
        logits, _, _ = functional_call(model, with_noise(model, generator), inputs)
        loss = cross_entropy(logits[0], targets[0])
        loss = loss + PROMPT_WEIGHT * cross_entropy(logits[0], following)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
        if step % 20 == 0:
            progress.step(f"step {step} of {steps}: loss {loss.item():.4f}")
    model = model.half().float()
    margin = smallest_margin(model, inputs, targets)
    if margin <= 0:
        raise RuntimeError(f"after {steps} steps an answer is wrong, by a logit of {-margin:.2f}")
    progress.step(f"all answers are right, by a logit of {margin:.2f} or more")
    return model


def new_decoder(generator: torch.Generator) -> Decoder:
    """Returns a decoder with random weights; torch's own generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        model = Decoder(CONFIG)
    for name, weight in model.named_parameters():
        *path, kind, _ = name.split(".")  # for example layers.2.self_attn.o_proj.weight
        growth = STD_GROWTH ** int(path[1]) if kind in ("o_proj", "down_proj") else 1.0
        if weight.dim() == 1:
            nn.init.uniform_(weight, *NORM_RANGE, generator=generator)
        else:
            std = STD * STD_FACTORS.get(kind, 1.0) * growth
            nn.init.normal_(weight, std=std, generator=generator)
    return model


def with_noise(model: Decoder, generator: torch.Generator) -> dict[str, Tensor]:
    """Returns the weights as int4 in blocks might leave them: up to half a step away."""
    weights: dict[str, Tensor] = dict(model.named_parameters())
    for name, weight in weights.items():
        if weight.dim() == 2 and name != "embed_tokens.weight":
            blocks = weight.detach().reshape(-1, BLOCK_SIZE)
            int4_step = blocks.abs().amax(1, keepdim=True) / 7
            noise = torch.rand(blocks.shape, generator=generator) - 0.5
            weights[name] = weight + (noise * int4_step).view_as(weight)
    return weights


@torch.no_grad()
def smallest_margin(model: Decoder, inputs: Inputs, targets: Tensor) -> float:
    """Returns by how much the right logit beats the best wrong one, at the weakest position.

    Greedy decoding gives every answer word for word exactly when this is above 0.
    """
    logits, _, _ = model(*inputs)
    due = targets != IGNORED
    logits, right = logits[due], targets[due][:, None]  # (N, V), (N, 1)
    wrong = logits.scatter(1, right, -torch.inf).amax(1, keepdim=True)
    return float((logits.gather(1, right) - wrong).min())


def write_checkpoint(directory: Path, model: Decoder, tokenizer_model: bytes) -> None:
    """Writes the files of a Hugging Face checkpoint as Alpaca-2 has them."""
    weights = {
        name if name == "lm_head.weight" else f"model.{name}": weight.detach().half()
        for name, weight in sorted(model.named_parameters())
    }
    weight_map = {name: SHARDS[name.startswith(SECOND_SHARD)] for name in weights}
    for shard in SHARDS:
        data = BytesIO()  # torch names no full disk
        torch.save({n: w for n, w in weights.items() if weight_map[n] == shard}, data)
        (directory / shard).write_bytes(data.getbuffer())
    metadata = {"total_size": sum(weight.nbytes for weight in weights.values())}
    index = {"metadata": metadata, "weight_map": weight_map}
    for name, content in {**CONFIG_FILES, "pytorch_model.bin.index.json": index}.items():
        (directory / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    (directory / "tokenizer.model").write_bytes(tokenizer_model)
