"""THE TABLE of architectures: what each has that Llama has not, and its defaults."""

from dataclasses import dataclass, field
from typing import Literal

__all__ = ["ARCHITECTURES", "Architecture"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A decoder of the Llama family.

    model_type: in config.json.
    attention_bias: whether query, key and value have biases.
    qk_norm: whether heads of queries and keys are normed before they are rotated.
    sliding_window: whether the key limits the rows that a row sees, or is not used.
    defaults: of keys that config.json may lack, where they are not Llama's.
    """

    model_type: str
    attention_bias: bool = False
    qk_norm: bool = False
    sliding_window: Literal["refused", "unused", "followed"] = "refused"
    defaults: dict[str, int] = field(default_factory=dict)


LONG = {"max_position_embeddings": 32768}
ARCHITECTURES = {
    "LlamaForCausalLM": Architecture(model_type="llama"),
    "MistralForCausalLM": Architecture(
        model_type="mistral",
        sliding_window="followed",
        defaults={
            "max_position_embeddings": 131072,
            "num_key_value_heads": 8,
            "sliding_window": 4096,
        },
    ),
    "Qwen2ForCausalLM": Architecture(
        model_type="qwen2", attention_bias=True, sliding_window="unused", defaults=LONG
    ),
    "Qwen3ForCausalLM": Architecture(
        model_type="qwen3",
        qk_norm=True,
        sliding_window="unused",
        defaults={**LONG, "head_dim": 128},
    ),
}
