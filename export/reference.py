"""The torch answer that `verify` compares with: the decoder in float32, layer by layer.

Only one layer's weights are in memory at a time, so the reference of a 7B fits where its bundle
does.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export.config import load_config
from export.decoder import DecoderLayer
from export.layers import RMSNorm, RotaryEmbedding
from export.lora import Adapter, open_weights
from runtime.bundle.manifest import ModelConfig

__all__ = ["Reference"]

MASKED = torch.finfo(torch.float32).min
Array = NDArray[np.float32]


class Reference:
    """Float32 residual streams and logits of a checkpoint."""

    def __init__(
        self, model: Path, config: ModelConfig | None = None, adapter: Adapter | None = None
    ) -> None:
        """Opens a checkpoint.

        Args:
            model: its directory.
            config: another than its own, where positions are scaled or an adapter brings tokens.
            adapter: is merged into it.
        """
        self.config: ModelConfig = load_config(model) if config is None else config
        self._checkpoint = open_weights(model, self.config, adapter)
        self._rotary = RotaryEmbedding(self.config)

    def hidden(self, sequences: Sequence[Sequence[int]]) -> list[Array]:
        """Residual streams after the last layer, float32 (S, E) each."""
        streams = self.embed(sequences)
        for i in range(self.config.num_hidden_layers):
            streams = self.layer(i, streams)
        return streams

    def embed(self, sequences: Sequence[Sequence[int]]) -> list[Array]:
        """What goes into the first layer, float32 (S, E) each."""
        table = self._checkpoint.tensor("embed_tokens.weight")
        return [table[torch.tensor(ids)].float().numpy() for ids in sequences]

    @torch.no_grad()
    def layer(self, i: int, streams: Sequence[Array]) -> list[Array]:
        """What layer i makes of whole residual streams, float32 (S, E) each."""
        layer = DecoderLayer(self.config).eval()
        self._load(layer, f"layers.{i}.")
        return [_run(layer, self._rotary, torch.from_numpy(x_SE)[None]) for x_SE in streams]

    @torch.no_grad()
    def logits(self, hidden_SE: Array) -> Array:
        """Logits of a last residual stream, float32 (S, V)."""
        norm = RMSNorm(self.config.hidden_size, self.config.rms_norm_eps)
        self._load(norm, "norm.")
        head = self._checkpoint.tensor("lm_head.weight").float()
        logits: Array = (norm(torch.from_numpy(hidden_SE)) @ head.T).numpy()
        return logits

    def _load(self, module: nn.Module, prefix: str) -> None:
        for name, parameter in module.named_parameters():
            parameter.data = self._checkpoint.tensor(prefix + name).float()


def _run(layer: DecoderLayer, rotary: RotaryEmbedding, x_1SE: Tensor) -> Array:
    seq_len = x_1SE.shape[1]
    mask = torch.full((1, 1, seq_len, seq_len), MASKED).triu(1)
    out: Array = layer(x_1SE, rotary(torch.arange(seq_len)[None]), mask, None)[0][0].numpy()
    return out
