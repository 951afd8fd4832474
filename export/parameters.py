"""Names and shapes of a model's tensors: the checkpoint's table and the decoder's. No torch."""

from functools import cache

from runtime.bundle.manifest import ModelConfig

__all__ = ["EMBEDDING", "LM_HEAD", "expected_shapes", "hf_name", "parameter_shape", "parameters"]

BIASED = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
LM_HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"


@cache
def expected_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor that a checkpoint of this model holds."""
    hidden, inner = config.hidden_size, config.intermediate_size
    q_size = config.num_attention_heads * config.head_dim
    kv_size = config.num_key_value_heads * config.head_dim
    layer: dict[str, tuple[int, ...]] = {
        "input_layernorm": (hidden,),
        "self_attn.q_proj": (q_size, hidden),
        "self_attn.k_proj": (kv_size, hidden),
        "self_attn.v_proj": (kv_size, hidden),
        "self_attn.o_proj": (hidden, q_size),
        "post_attention_layernorm": (hidden,),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    if config.qk_norm:
        layer |= dict.fromkeys(("self_attn.q_norm", "self_attn.k_norm"), (config.head_dim,))
    stored = {f"{name}.weight": shape for name, shape in layer.items()}
    if config.attention_bias:
        stored |= {f"{name}.bias": layer[name][:1] for name in BIASED}
    shapes: dict[str, tuple[int, ...]] = {EMBEDDING: (config.vocab_size, hidden)}
    for i in range(config.num_hidden_layers):
        shapes |= {f"model.layers.{i}.{name}": shape for name, shape in stored.items()}
    shapes |= {"model.norm.weight": (hidden,), LM_HEAD: (config.vocab_size, hidden)}
    return shapes


def hf_name(parameter: str) -> str:
    """The checkpoint's name of a decoder parameter."""
    return parameter if parameter == LM_HEAD else f"model.{parameter}"


def parameter_shape(config: ModelConfig, parameter: str) -> tuple[int, ...]:
    """The shape of a decoder parameter."""
    return expected_shapes(config)[hf_name(parameter)]


def parameters(config: ModelConfig) -> list[str]:
    """Decoder parameters in checkpoint order; a tied head is the embedding."""
    names = [name.removeprefix("model.") for name in expected_shapes(config)]
    return [name for name in names if not (config.tie_word_embeddings and name.startswith("lm_"))]
