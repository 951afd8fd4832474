"""Random weights and a made-up tokenizer from config.json alone (`--load-format dummy`).

For measuring the speed and memory of a model whose checkpoint is not at hand: the bytes are as
hard to pack and to multiply as real ones, the answers mean nothing.
"""

import hashlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from sentencepiece import sentencepiece_model_pb2
from torch import Tensor

from export.checkpoint import CHUNK_ELEMENTS
from export.parameters import parameter_shape
from runtime.bundle.manifest import ModelConfig

__all__ = ["DUMMY_EOS", "DummyCheckpoint", "dummy_tokenizer"]

DUMMY_EOS = 2  # of the tokenizer below, as of Llama's

SPACE_MARK = "\u2581"  # SentencePiece's space
STD = 0.02  # initializer_range of Llama's config.json


class DummyCheckpoint:
    """Seeded normal weights; the same name and shape give the same values."""

    def __init__(self, config: ModelConfig) -> None:
        self._config = config

    def chunks(self, parameter: str) -> Iterator[Tensor]:
        """The elements of a decoder parameter in order, float16; norm weights are ones."""
        shape = parameter_shape(self._config, parameter)
        num_elements = math.prod(shape)
        seed = int.from_bytes(hashlib.sha256(parameter.encode()).digest()[:8], "big")
        rng = np.random.Generator(np.random.SFC64(seed))
        for start in range(0, num_elements, CHUNK_ELEMENTS):
            size = min(CHUNK_ELEMENTS, num_elements - start)
            if len(shape) == 1:
                yield torch.ones(size, dtype=torch.float16)
            else:
                normal = rng.standard_normal(size, np.float32) * np.float32(STD)
                yield torch.from_numpy(normal.astype(np.float16))


def dummy_tokenizer(vocab_size: int) -> bytes:
    """A SentencePiece model of this size: control and byte pieces, then numbered ones."""
    sp: Any = sentencepiece_model_pb2  # its classes are made at import
    model = sp.ModelProto()
    model.trainer_spec.model_type = sp.TrainerSpec.BPE
    model.trainer_spec.byte_fallback = True
    model.normalizer_spec.name = "identity"
    kinds = sp.ModelProto.SentencePiece
    pieces = [("<unk>", kinds.UNKNOWN), ("<s>", kinds.CONTROL), ("</s>", kinds.CONTROL)]
    pieces += [(f"<0x{byte:02X}>", kinds.BYTE) for byte in range(256)]
    pieces.append((SPACE_MARK, kinds.NORMAL))
    numbers = range(vocab_size - len(pieces))
    pieces += [(f"{SPACE_MARK}{number}", kinds.NORMAL) for number in numbers]
    for piece, kind in pieces[:vocab_size]:
        model.pieces.add(piece=piece, score=0.0, type=kind)
    data: bytes = model.SerializeToString()
    return data
