"""Claims about export.decoder and export.reference: the logits of transformers' Llama in float32.

Shape suffixes as in export/layers.py.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import LlamaForCausalLM

from export.checkpoint import open_checkpoint
from export.config import load_config
from export.decoder import Decoder
from export.past import GivenRows
from export.reference import Reference
from runtime.bundle.manifest import ModelConfig
from runtime.bundle.rope import LinearRope, Llama3Rope, YarnRope
from tests.export.llamas import BASE, llama, random_ids

TOLERANCE = 1e-4
MASKED = torch.finfo(torch.float32).min
GARBAGE = 30.0  # what the cache holds where no row was written
NUM_TOKENS = 17

YARN = YarnRope(factor=8.0, original_max_position_embeddings=64, attention_factor=1.2079)
LLAMA3 = Llama3Rope(
    factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=64
)
CHANGES: dict[str, dict[str, object]] = {
    "multi-head": {},
    "grouped": {"num_key_value_heads": 2},
    "grouped by four": {"num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 6},
    "multi-query": {"num_key_value_heads": 1},
    "tied": {"tie_word_embeddings": True},
    "tied and grouped": {"tie_word_embeddings": True, "num_key_value_heads": 2},
    "3 heads": {"num_attention_heads": 3, "num_key_value_heads": 3, "head_dim": 16},
    "5 heads": {
        "hidden_size": 60,
        "num_attention_heads": 5,
        "num_key_value_heads": 5,
        "head_dim": 12,
    },
    "5 heads, 1 group": {"hidden_size": 40, "num_attention_heads": 5, "num_key_value_heads": 1},
    "6 heads, 3 groups": {"num_attention_heads": 6, "num_key_value_heads": 3, "head_dim": 8},
    "wide heads": {"head_dim": 32},
    "narrow heads": {"head_dim": 2, "num_key_value_heads": 2},
    "linear": {"rope_scaling": LinearRope(factor=4.0)},
    "linear by 2.5": {"rope_scaling": LinearRope(factor=2.5), "num_key_value_heads": 2},
    "yarn": {"rope_scaling": YARN, "max_position_embeddings": 512},
    "llama3": {"rope_scaling": LLAMA3, "num_key_value_heads": 2},
    "theta 1e6": {"rope_theta": 1e6},
    "eps 1e-6": {"rms_norm_eps": 1e-6},
    "eps 0.1": {"rms_norm_eps": 0.1},
    "one layer": {"num_hidden_layers": 1},
    "five layers": {"num_hidden_layers": 5, "intermediate_size": 11},
}
every_config = pytest.mark.parametrize(
    "config", [BASE.model_copy(update=change) for change in CHANGES.values()], ids=list(CHANGES)
)
pytestmark = pytest.mark.usefixtures("one_torch_thread")


def same_decoder(model: LlamaForCausalLM, config: ModelConfig) -> Decoder:
    decoder = Decoder(config).eval()
    state = {name.removeprefix("model."): tensor for name, tensor in model.state_dict().items()}
    decoder.load_state_dict(state)
    return decoder


def mask(starts: Sequence[int], seq_len: int, cache_len: int) -> Tensor:
    """Float32 (B, 1, S, C + S): the first start cached rows, then the new rows up to one's own."""
    rows = [
        [
            [0.0 if column < start else MASKED for column in range(cache_len)]
            + [0.0 if column <= row else MASKED for column in range(seq_len)]
            for row in range(seq_len)
        ]
        for start in starts
    ]
    return torch.tensor(rows)[:, None]


def positions(starts: Sequence[int], seq_len: int) -> Tensor:
    return torch.tensor([[start + i for i in range(seq_len)] for start in starts])


def run_whole(decoder: Decoder, ids_BS: Tensor) -> Tensor:
    batch, seq_len = ids_BS.shape
    starts = [0] * batch
    logits_BSV: Tensor = decoder(ids_BS, positions(starts, seq_len), mask(starts, seq_len, 0))[0]
    return logits_BSV


def run_chunks(decoder: Decoder, ids_1S: Tensor, cuts: Sequence[int], cache_len: int) -> Tensor:
    """Logits of a sequence that is run in pieces, through a cache of fixed size."""
    config = decoder.config
    shape = (2, 1, config.num_key_value_heads, cache_len, config.head_dim)
    cache = [torch.full(shape, GARBAGE) for _ in range(config.num_hidden_layers)]
    parts = []
    for start, end in zip([0, *cuts], [*cuts, ids_1S.shape[1]], strict=True):
        past = [GivenRows(rows[0], rows[1]) for rows in cache]
        logits, keys, values = decoder(
            ids_1S[:, start:end],
            positions([start], end - start),
            mask([start], end - start, cache_len),
            past,
        )
        for rows, key, value in zip(cache, keys, values, strict=True):
            rows[0, :, :, start:end], rows[1, :, :, start:end] = key, value
        parts.append(logits)
    return torch.cat(parts, dim=1)


def assert_close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, atol=TOLERANCE, rtol=0)


@every_config
@torch.no_grad()
def test_logits_are_those_of_transformers(config: ModelConfig) -> None:
    model = llama(config)
    decoder, ids_BS = same_decoder(model, config), random_ids(config, 3, NUM_TOKENS)
    theirs = model(ids_BS).logits
    assert theirs.std() > 0.5, "the weights are too small to tell right from wrong"
    assert_close(run_whole(decoder, ids_BS), theirs)


@every_config
@torch.no_grad()
def test_chunks_and_single_tokens_through_a_padded_cache_give_the_same(config: ModelConfig) -> None:
    model = llama(config)
    decoder, ids_1S = same_decoder(model, config), random_ids(config, 1, NUM_TOKENS)
    theirs = model(ids_1S).logits
    assert_close(run_chunks(decoder, ids_1S, [6, 13], cache_len=32), theirs)
    assert_close(run_chunks(decoder, ids_1S, range(1, NUM_TOKENS), cache_len=20), theirs)


@settings(derandomize=True, max_examples=30)
@given(cuts=st.sets(st.integers(1, NUM_TOKENS - 1)), room=st.integers(0, 9))
@torch.no_grad()
def test_however_a_sequence_is_cut_its_logits_are_the_same(cuts: set[int], room: int) -> None:
    config = BASE.model_copy(update={"num_key_value_heads": 2})
    model = llama(config)
    decoder, ids_1S = same_decoder(model, config), random_ids(config, 1, NUM_TOKENS)
    ours = run_chunks(decoder, ids_1S, sorted(cuts), cache_len=NUM_TOKENS + room)
    assert_close(ours, model(ids_1S).logits)


@torch.no_grad()
def test_positions_are_the_ones_given() -> None:
    model = llama(BASE)
    decoder, ids_BS = same_decoder(model, BASE), random_ids(BASE, 2, 4)
    scattered = torch.tensor([[0, 3, 4, 90], [7, 8, 100, 200]])
    ours = decoder(ids_BS, scattered, mask([0, 0], 4, 0))[0]
    assert_close(ours, model(ids_BS, position_ids=scattered).logits)


@torch.no_grad()
def test_logit_rows_choose_rows_of_the_flattened_batch() -> None:
    decoder, ids_BS = same_decoder(llama(BASE), BASE), random_ids(BASE, 3, 5)
    whole, starts = run_whole(decoder, ids_BS), [0, 0, 0]
    rows = torch.tensor([4, 5 + 1, 10 + 0])
    ours = decoder(ids_BS, positions(starts, 5), mask(starts, 5, 0), None, rows)[0]
    assert_close(ours, torch.stack([whole[0, 4], whole[1, 1], whole[2, 0]]))


@torch.no_grad()
def test_two_sequences_of_different_lengths_do_not_disturb_each_other() -> None:
    config = BASE.model_copy(update={"num_key_value_heads": 2})
    model = llama(config)
    decoder, ids_BS, lengths = same_decoder(model, config), random_ids(config, 2, 12), [10, 4]
    starts = [0, 0]
    prefill = decoder(ids_BS, positions(starts, 12), mask(starts, 12, 0))
    past = [GivenRows(*map(Tensor.clone, rows)) for rows in zip(*prefill[1:], strict=True)]
    for row, length in enumerate(lengths):
        alone = model(ids_BS[row : row + 1, :length]).logits
        assert_close(prefill[0][row, :length], alone[0])
        for key, value in past:
            key[row, :, length:], value[row, :, length:] = GARBAGE, GARBAGE
    new_B1 = random_ids(config, 2, 1)
    decoded = decoder(new_B1, positions(lengths, 1), mask(lengths, 1, 12), past)[0]
    for row, length in enumerate(lengths):
        sequence = torch.cat([ids_BS[row, :length], new_B1[row]])
        assert_close(decoded[row], model(sequence[None]).logits[0, -1:])


@pytest.mark.slow
@torch.no_grad()
def test_a_real_checkpoint_gives_the_logits_of_transformers(shared_data: Path) -> None:
    directory = shared_data / "alpaca2-mini"
    documents = json.loads((directory / "held_out_ids.json").read_text())[:40:10]
    model = LlamaForCausalLM.from_pretrained(
        directory, dtype=torch.float32, attn_implementation="eager"
    )
    config = load_config(directory)
    checkpoint, decoder = open_checkpoint(directory, config), Decoder(config).eval()
    decoder.load_state_dict({name: checkpoint.tensor(name) for name in decoder.state_dict()})
    reference = Reference(directory)
    streams = reference.hidden(documents)
    for document, stream_SE in zip(documents, streams, strict=True):
        ids_1S = torch.tensor([document])
        theirs = model(ids_1S).logits
        assert_close(run_whole(decoder, ids_1S), theirs)
        cuts = [len(document) // 3, len(document) // 2]
        assert_close(run_chunks(decoder, ids_1S, cuts, cache_len=512), theirs)
        np.testing.assert_allclose(reference.logits(stream_SE), theirs[0], atol=TOLERANCE, rtol=0)
