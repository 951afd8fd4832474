"""The layers of a Llama decoder, written so that the traced graph is the graph we want.

Shape suffixes: B batch, S new rows, C cached rows, T = C + S, E hidden_size, H attention heads,
G key/value heads, R = H / G, D head_dim. MatMuls run in the weights' type; RMSNorm, softmax and
the rotary angles are float32 islands. No layer knows which phase it is traced for.
"""

import torch
from torch import Tensor, nn

from runtime.bundle.manifest import ModelConfig

__all__ = ["MLP", "Attention", "RMSNorm", "RotaryEmbedding"]


class RMSNorm(nn.Module):
    """y = x / sqrt(mean(x^2) + eps) * weight (arXiv:1910.07467), computed in float32."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x_BSE: Tensor) -> Tensor:
        x = x_BSE.float()
        normed = x * torch.rsqrt((x * x).mean(-1, keepdim=True) + self.eps)
        return self.weight * normed.to(x_BSE.dtype)


class RotaryEmbedding(nn.Module):
    """Cosine and sine of the rotary angles (arXiv:2104.09864), float32.

    Linear scaling divides the positions by `rope_scaling_factor` (arXiv:2306.15595).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim
        inverse = 1.0 / (config.rope_theta**exponents) / config.rope_scaling_factor
        self.register_buffer("inverse_frequencies", inverse, persistent=False)

    def forward(self, position_ids_BS: Tensor) -> tuple[Tensor, Tensor]:
        """Returns cos and sin, both float32 (B, 1, S, D / 2)."""
        frequencies = self.get_buffer("inverse_frequencies")
        angles = position_ids_BS.float()[:, None, :, None] * frequencies
        return angles.cos(), angles.sin()


def rotate(x_BHSD: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotates the pairs (i, i + D / 2), the pairing of Hugging Face's Llama weights."""
    half = x_BHSD.shape[-1] // 2
    cos, sin = cos.to(x_BHSD.dtype), sin.to(x_BHSD.dtype)
    left, right = x_BHSD[..., :half], x_BHSD[..., half:]
    return torch.cat([left * cos - right * sin, right * cos + left * sin], dim=-1)


class Attention(nn.Module):
    """Causal attention of S new rows over C cached rows and themselves."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.num_kv_heads = config.num_key_value_heads
        self.head_dim = config.head_dim
        q_size, kv_size = self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim
        self.q_proj = nn.Linear(config.hidden_size, q_size, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, kv_size, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, kv_size, bias=False)
        self.o_proj = nn.Linear(q_size, config.hidden_size, bias=False)

    def forward(
        self,
        x_BSE: Tensor,
        rotary: tuple[Tensor, Tensor],
        mask_B1ST: Tensor,
        past: tuple[Tensor, Tensor] | None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the output (B, S, E) and the NEW key and value rows (B, G, S, D)."""
        q_BHSD = rotate(self._heads(self.q_proj(x_BSE), self.num_heads), *rotary)
        k_BGSD = rotate(self._heads(self.k_proj(x_BSE), self.num_kv_heads), *rotary)
        v_BGSD = self._heads(self.v_proj(x_BSE), self.num_kv_heads)
        k_BGTD, v_BGTD = k_BGSD, v_BGSD
        if past is not None:
            k_BGTD = torch.cat([past[0], k_BGSD], dim=2)
            v_BGTD = torch.cat([past[1], v_BGSD], dim=2)
        return self.o_proj(self._attend(q_BHSD, k_BGTD, v_BGTD, mask_B1ST)), k_BGSD, v_BGSD

    def _heads(self, x_BSE: Tensor, num_heads: int) -> Tensor:
        batch, seq_len, _ = x_BSE.shape
        return x_BSE.view(batch, seq_len, num_heads, self.head_dim).transpose(1, 2)

    def _attend(self, q_BHSD: Tensor, k_BGTD: Tensor, v_BGTD: Tensor, mask_B1ST: Tensor) -> Tensor:
        batch, _, seq_len, _ = q_BHSD.shape
        grouped = (batch, self.num_kv_heads, -1, self.head_dim)  # the R heads of a group as rows
        # Scaled in float32: in float16 the factor itself would be off by up to 5e-4.
        scores = q_BHSD.reshape(grouped) @ k_BGTD.transpose(2, 3)  # (B, G, R * S, T)
        scores = scores.float() * self.head_dim**-0.5
        scores_BHST = scores.reshape(batch, self.num_heads, seq_len, -1) + mask_B1ST
        weights_BHST = scores_BHST.softmax(-1).to(v_BGTD.dtype)
        weights = weights_BHST.reshape(batch, self.num_kv_heads, -1, k_BGTD.shape[2])
        out_BHSD = (weights @ v_BGTD).reshape(batch, self.num_heads, seq_len, self.head_dim)
        merged: Tensor = out_BHSD.transpose(1, 2).reshape(batch, seq_len, -1)
        return merged


class MLP(nn.Module):
    """SwiGLU feed-forward (arXiv:2002.05202)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x_BSE: Tensor) -> Tensor:
        gated = nn.functional.silu(self.gate_proj(x_BSE)) * self.up_proj(x_BSE)
        out_BSE: Tensor = self.down_proj(gated)
        return out_BSE
