"""One Llama decoder for every graph: prefill, decode and score are shapes of one forward.

The cache is passed in. Its new rows are passed out, or written in place: see export/past.py.
Shape suffixes as in export/layers.py.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from export.forms import PORTABLE, Form
from export.layers import MLP, Attention, RMSNorm, RotaryEmbedding
from export.past import Past
from runtime.bundle.manifest import ModelConfig

__all__ = ["Decoder", "DecoderLayer"]


class DecoderLayer(nn.Module):
    """Pre-norm attention and feed-forward, each added to the residual stream."""

    def __init__(self, config: ModelConfig, form: Form = PORTABLE) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps, form)
        self.self_attn = Attention(config, form)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps, form)
        self.mlp = MLP(config, form)

    def forward(
        self, x_BSE: Tensor, rotary: tuple[Tensor, Tensor], mask_B1ST: Tensor, past: Past | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the residual stream (B, S, E) and the new key and value rows."""
        attended, k, v = self.self_attn(self.input_layernorm(x_BSE), rotary, mask_B1ST, past)
        x_BSE = x_BSE + attended
        return x_BSE + self.mlp(self.post_attention_layernorm(x_BSE)), k, v


class Decoder(nn.Module):
    """Token ids in, logits and new cache rows out.

    Parameters carry the checkpoint's names without the leading "model.".
    """

    def __init__(self, config: ModelConfig, form: Form = PORTABLE) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.rotary_emb = RotaryEmbedding(config, form)
        layers = (DecoderLayer(config, form) for _ in range(config.num_hidden_layers))
        self.layers = nn.ModuleList(layers)
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps, form)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.tie_word_embeddings:
            self.lm_head.weight = self.embed_tokens.weight

    def forward(
        self,
        input_ids: Tensor,
        position_ids: Tensor,
        attention_mask: Tensor,
        past: Sequence[Past] | None = None,
        logit_rows: Tensor | None = None,
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Runs S new rows of B sequences.

        Args:
            input_ids: int64 (B, S).
            position_ids: int64 (B, S), absolute positions.
            attention_mask: (B, 1, S, T), as the form's attention takes it.
            past: the cached rows of each layer, or None for C = 0.
            logit_rows: int64 (B,), rows of the flattened (B * S) whose logits are wanted;
                None for all of them.

        Returns:
            Logits, float32 (B, V) or (B, S, V), then the new keys and the new values of each
            layer, as the form's heads lie.
        """
        x_BSE = self.embed_tokens(input_ids)
        rotary = self.rotary_emb(position_ids)
        keys: list[Tensor] = []
        values: list[Tensor] = []
        for i, layer in enumerate(self.layers):
            x_BSE, k, v = layer(x_BSE, rotary, attention_mask, None if past is None else past[i])
            keys.append(k)
            values.append(v)
        x_BSE = self.norm(x_BSE)
        if logit_rows is None:
            return self.lm_head(x_BSE).float(), keys, values
        # The LM head never runs on rows that nobody reads. Kept 3-D, so it stays a MatMul.
        chosen_B1E = x_BSE.flatten(0, 1).index_select(0, logit_rows)[:, None]
        return self.lm_head(chosen_B1E).float()[:, 0], keys, values
