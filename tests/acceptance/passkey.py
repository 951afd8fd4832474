"""A checkpoint that finds a number hidden in a long text, its weights made by arithmetic.

An induction circuit of two layers (arXiv:2209.11895) with one head each, so that nothing is trained
and nothing is left to chance. The residual stream has four fields of 64:

    TOKEN   the code of the row's token, a row of a Hadamard matrix: codes are orthogonal
    BEFORE  the code of the token before, which layer 0 writes
    ANSWER  the code of the token that follows, which layer 1 writes
    ONE     ones

Weights of the norms undo what a norm divides by, so that layers take the fields as they are.

Layer 0 looks one row back. Its query and its key do not depend on the token; the key is turned by
one position in advance, so that row m scores row n with 32 * cos(frequency * (m - n - 1)), summed
up over the quick rotary pairs. Of 16K rows n = m - 1 has the most, and the next one 26 nats less.

Layer 1 looks for the row that stands behind the token of this row. Each token that can be asked for
has one of the slow rotary pairs for itself: the query is long in the pair of TOKEN, the key in that
of BEFORE. The right row scores 72 * cos(frequency * distance), any other 0. The quickest of these
pairs turns by 0.95 within 8K rows, so that the right row leads by 41 nats there, where the other
rows together weigh 9.
"""

import json
import random
from pathlib import Path

import torch
from torch import Tensor

from export.dummy import dummy_tokenizer
from export.parameters import hf_name, parameter_shape, parameters
from runtime.bundle.manifest import ModelConfig

__all__ = ["CONFIG", "NUMBER", "hidden_at", "make_seeker"]

WIDTH = 64  # of a field, and of a head
TOKEN, BEFORE, ANSWER, ONE = (slice(WIDTH * i, WIDTH * (i + 1)) for i in range(4))
CONFIG = ModelConfig(
    vocab_size=384,
    hidden_size=4 * WIDTH,
    intermediate_size=256,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=2,
    head_dim=WIDTH,
    max_position_embeddings=16384,
    rms_norm_eps=1e-5,
    rope_theta=1e6,  # that of Qwen 2.5, whose slow pairs hardly turn within 8K rows
)
BOS, KEY = 1, 3
DIGITS = range(4, 14)
FILLER = range(14, WIDTH)
ASKED = (KEY, *DIGITS)  # the last pairs of layer 1, in this order
NUM_QUICK = 16  # pairs that layer 0 uses
BACK, FOLLOW = 16.0, 24.0  # lengths of queries and keys in a pair

NUMBER = [DIGITS[i] for i in (7, 0, 4, 9, 2)]  # no digit twice


def hidden_at(depth: float, length: int) -> list[int]:
    """A text of so many tokens that ends by asking for NUMBER.

    Args:
        depth: where the number stands: 0 at the beginning, 1 at the end.
        length: tokens in all.
    """
    words = random.Random(length).choices(FILLER, k=length - len(NUMBER) - 3)
    place = round(depth * len(words))
    return [BOS, *words[:place], KEY, *NUMBER, *words[place:], KEY]


def make_seeker(directory: Path, **changes: object) -> None:
    """Writes the checkpoint; changes go into its config.json and into no weight."""
    directory.mkdir(parents=True)
    weights = {hf_name(name): weight.half() for name, weight in _weights().items()}
    torch.save(weights, directory / "pytorch_model.bin")
    kind = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
    (directory / "config.json").write_text(json.dumps({**CONFIG.model_dump(), **kind, **changes}))
    (directory / "tokenizer.model").write_bytes(dummy_tokenizer(CONFIG.vocab_size))


def _weights() -> dict[str, Tensor]:
    """By the decoder's names; what is not set here is zero, and ones for a norm."""
    shapes = {name: parameter_shape(CONFIG, name) for name in parameters(CONFIG)}
    weights = {name: torch.full(shape, float(len(shape) == 1)) for name, shape in shapes.items()}
    codes = _hadamard(WIDTH)
    # Ids above the first ones, which no text has, stand opposite to them.
    every_code = torch.cat([codes] + [-codes] * (CONFIG.vocab_size // WIDTH - 1))
    weights["embed_tokens.weight"][:, TOKEN] = every_code
    weights["embed_tokens.weight"][:, ONE] = 1.0
    weights["lm_head.weight"][:, ANSWER] = every_code

    turns = CONFIG.rope_theta ** (-torch.arange(NUM_QUICK) / (WIDTH // 2))  # radians a position
    quick, imaginary = slice(0, NUM_QUICK), slice(WIDTH // 2, WIDTH // 2 + NUM_QUICK)
    back = "layers.0.self_attn"
    weights[f"{back}.q_proj.weight"][quick, ONE] = BACK / WIDTH
    weights[f"{back}.k_proj.weight"][quick, ONE] = BACK / WIDTH * turns.cos()[:, None]
    weights[f"{back}.k_proj.weight"][imaginary, ONE] = BACK / WIDTH * turns.sin()[:, None]

    slow, asked = slice(WIDTH // 2 - len(ASKED), WIDTH // 2), codes[list(ASKED)]
    follow = "layers.1.self_attn"
    weights[f"{follow}.q_proj.weight"][slow, TOKEN] = FOLLOW / WIDTH * asked
    weights[f"{follow}.k_proj.weight"][slow, BEFORE] = FOLLOW / WIDTH * asked

    for i, (written, num_fields) in enumerate(((BEFORE, 2), (ANSWER, 3))):
        weights[f"layers.{i}.input_layernorm.weight"].fill_((num_fields / 4) ** 0.5)
        weights[f"layers.{i}.self_attn.v_proj.weight"][:WIDTH, TOKEN] = torch.eye(WIDTH)
        weights[f"layers.{i}.self_attn.o_proj.weight"][written, :WIDTH] = torch.eye(WIDTH)
    return weights


def _hadamard(size: int) -> Tensor:
    """Rows of ones and minus ones, each orthogonal to all others."""
    rows = torch.ones(1, 1)
    while len(rows) < size:
        rows = torch.cat([torch.cat([rows, rows], 1), torch.cat([rows, -rows], 1)])
    return rows
