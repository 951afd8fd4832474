"""The layers of a Llama decoder, written so that the traced graph is the graph we want.

Shape suffixes: B batch, S new rows, C cached rows, T = C + S, E hidden_size, H attention heads,
G key/value heads, R = H / G, D head_dim. MatMuls run in the weights' type; RMSNorm, softmax and
the rotary angles are float32 islands. No layer knows which phase it is traced for, or what its
operators become: that is in its form.
"""

import torch
from torch import Tensor, nn

from export.forms import PORTABLE, Form
from export.past import Past
from export.positions import inverse_frequencies
from runtime.bundle.manifest import ModelConfig
from runtime.bundle.rope import attention_factor

__all__ = ["MLP", "Attention", "RMSNorm", "RotaryEmbedding"]


class RMSNorm(nn.Module):
    """The weight and the epsilon of a norm."""

    def __init__(self, size: int, eps: float, form: Form = PORTABLE) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps
        self.form = form

    def forward(self, x_BSE: Tensor) -> Tensor:
        return self.form.rms_norm(x_BSE, self.weight, self.eps)


class HeadNorm(RMSNorm):
    """The same for each head of a row by itself."""

    def forward(self, x_BSE: Tensor) -> Tensor:
        """Takes and returns (B, S, heads * D)."""
        heads = x_BSE.view(*x_BSE.shape[:2], -1, len(self.weight))
        return self.form.rms_norm(heads, self.weight, self.eps).flatten(-2)


class RotaryEmbedding(nn.Module):
    """Cosine and sine of the rotary angles, float32."""

    def __init__(self, config: ModelConfig, form: Form = PORTABLE) -> None:
        super().__init__()
        self.register_buffer("inverse_frequencies", inverse_frequencies(config), persistent=False)
        self.attention_factor = attention_factor(config.rope_scaling)
        self.heads_axis = form.heads_axis

    def forward(self, position_ids_BS: Tensor) -> tuple[Tensor, Tensor]:
        """Returns cos and sin, both float32 (B, 1, S, D / 2) or (B, S, 1, D / 2)."""
        frequencies = self.get_buffer("inverse_frequencies")
        positions = position_ids_BS.float().unsqueeze(self.heads_axis).unsqueeze(3)
        angles = positions * frequencies
        if self.attention_factor == 1:
            return angles.cos(), angles.sin()
        return angles.cos() * self.attention_factor, angles.sin() * self.attention_factor


class Attention(nn.Module):
    """Causal attention of S new rows over C cached rows and themselves."""

    def __init__(self, config: ModelConfig, form: Form = PORTABLE) -> None:
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.num_kv_heads = config.num_key_value_heads
        self.head_dim = config.head_dim
        self.form = form
        q_size, kv_size = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        bias = config.attention_bias
        self.q_proj = nn.Linear(config.hidden_size, q_size, bias=bias)
        self.k_proj = nn.Linear(config.hidden_size, kv_size, bias=bias)
        self.v_proj = nn.Linear(config.hidden_size, kv_size, bias=bias)
        self.o_proj = nn.Linear(q_size, config.hidden_size, bias=False)
        self.q_norm, self.k_norm = (_head_norm(config, form) for _ in range(2))

    def forward(
        self, x_BSE: Tensor, rotary: tuple[Tensor, Tensor], mask_B1ST: Tensor, past: Past | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the output (B, S, E) and the NEW key and value rows, as they lie in the cache."""
        q = self._heads(self.q_norm(self.q_proj(x_BSE)), self.num_heads)
        k = self._heads(self.k_norm(self.k_proj(x_BSE)), self.num_kv_heads)
        q, k = self.form.rotate(q, k, *rotary)
        v = self._heads(self.v_proj(x_BSE), self.num_kv_heads)
        keys, values = (k, v) if past is None else past.join(k, v)
        return self.o_proj(self.form.attend(q, keys, values, mask_B1ST)), k, v

    def _heads(self, x_BSE: Tensor, num_heads: int) -> Tensor:
        batch, seq_len, _ = x_BSE.shape
        x_BSHD = x_BSE.view(batch, seq_len, num_heads, self.head_dim)
        return x_BSHD.movedim(2, self.form.heads_axis)


def _head_norm(config: ModelConfig, form: Form) -> nn.Module:
    if not config.qk_norm:
        return nn.Identity()
    return HeadNorm(config.head_dim, config.rms_norm_eps, form)


class MLP(nn.Module):
    """SwiGLU feed-forward (arXiv:2002.05202)."""

    def __init__(self, config: ModelConfig, form: Form = PORTABLE) -> None:
        super().__init__()
        self.form = form
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x_BSE: Tensor) -> Tensor:
        gated = self.form.swiglu(self.gate_proj(x_BSE), self.up_proj(x_BSE))
        out_BSE: Tensor = self.down_proj(gated)
        return out_BSE
