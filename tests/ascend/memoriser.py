"""A checkpoint that knows seeded sequences by heart: grouped-query attention, scaled positions.

There are few ids: each stands in many sequences with other followers, so that what comes next
depends on the rows in the cache. The right logit leads by far more than float16 rounds away, so
every target must say the same.
"""

import json
import random
import shutil
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from export.decoder import Decoder
from runtime.bundle.rope import YarnRope
from tests.models import TINY

ROPE = YarnRope(factor=2.0, original_max_position_embeddings=32, attention_factor=1.0693)
CONFIG = TINY.model_copy(update={"num_hidden_layers": 2, "rope_scaling": ROPE})
NUM_SEQUENCES, LENGTH = 20, 40
PROMPT = 8  # ids that tell which sequence it is
MARGIN = 2.0  # of the right logit, at least
STEPS, LEARNING_RATE = 100, 1e-2
MASKED = -65504.0  # the lowest float16
SEQUENCES = [
    [1, *random.Random(seed).choices(range(10, 50), k=LENGTH - 1)] for seed in range(NUM_SEQUENCES)
]


def make_memoriser(directory: Path, tokenizer: Path) -> None:
    """Trains it and writes a checkpoint; the tokenizer is one of as many pieces."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # waiting for a second thread costs more than these small products
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = train(torch.tensor(SEQUENCES))
    torch.set_num_threads(num_threads)
    directory.mkdir()
    weights = {
        name if name == "lm_head.weight" else f"model.{name}": weight.detach().half()
        for name, weight in model.named_parameters()
    }
    torch.save(weights, directory / "pytorch_model.bin")
    kind = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
    values = CONFIG.model_dump() | kind
    (directory / "config.json").write_text(json.dumps(values))
    shutil.copy(tokenizer, directory / "tokenizer.model")


def train(ids_BS: Tensor) -> Decoder:
    """Returns a decoder whose every answer is right by MARGIN, its weights rounded to float16."""
    model = Decoder(CONFIG)
    for weight in model.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=weight.shape[1] ** -0.5)
    batch, seq_len = ids_BS.shape
    positions_BS = torch.arange(seq_len).expand(batch, seq_len)
    mask_B1SS = torch.full((seq_len, seq_len), MASKED).triu(1).expand(batch, 1, seq_len, seq_len)
    due_BS = ids_BS[:, PROMPT:]
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=STEPS)
    for _ in range(STEPS):
        logits_BSV = model(ids_BS, positions_BS, mask_B1SS)[0][:, PROMPT - 1 : -1]
        optimizer.zero_grad()
        torch.autograd.backward(cross_entropy(logits_BSV.flatten(0, 1), due_BS.flatten()))
        optimizer.step()
        schedule.step()
    model = model.half().float()
    with torch.no_grad():
        logits_BSV = model(ids_BS, positions_BS, mask_B1SS)[0][:, PROMPT - 1 : -1]
    right = logits_BSV.gather(2, due_BS[..., None])
    wrong = logits_BSV.scatter(2, due_BS[..., None], -torch.inf).amax(2, keepdim=True)
    assert (right - wrong).min() > MARGIN
    return model
