"""THE TABLES of config.json: keys that are read, keys that must have one value, harmless keys.

A key in none of them is not followed, and that is said.
"""

from runtime.sampling.generation_keys import (
    FOLLOWED,
    HARMLESS,
    NEUTRAL,
    SAMPLING,
    SAMPLING_NEUTRAL,
)

__all__ = ["FIXED", "GENERATION", "KNOWN", "ROPE_FIXED", "ROPE_HARMLESS", "SIZES"]

# Sizes that are divided below, so that they must be whole numbers already; null leaves the last
# two to their defaults.
SIZES = {
    "vocab_size": True,
    "hidden_size": True,
    "intermediate_size": True,
    "num_hidden_layers": True,
    "num_attention_heads": True,
    "num_key_value_heads": False,
    "head_dim": False,
}
READ = {
    "architectures",
    "layer_types",
    "max_position_embeddings",
    "original_max_position_embeddings",
    "quantization_config",
    "rms_norm_eps",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
    "tie_word_embeddings",
    *SIZES,
}

# Keys that change what a model computes, with the only values that the decoder implements. An
# absent key has the first of them. They come from models that others derived from Llama.
FIXED: dict[str, tuple[object, ...]] = {
    "model_type": ("llama",),  # or what its architecture has
    "hidden_act": ("silu", "swish"),
    # biases
    "attention_bias": (False, None),
    "attention_out_bias": (False, None),
    "bias": (False, None),
    "mlp_bias": (False, None),
    "qkv_bias": (False, None),
    "use_bias": (False, None),
    # numbers in fewer bits
    "compression_config": (None,),
    # positions
    "alibi": (False, None),
    "no_rope_layer_interval": (None, 0),
    "no_rope_layers": (None, []),
    "partial_rotary_factor": (1, None),
    "rope_interleave": (False, None),
    "rope_interleaved": (False, None),
    "rope_pct": (1, None),
    "rotary_pct": (1, None),
    "use_alibi": (False, None),
    # attention
    "attention_chunk_size": (None,),
    "attention_multiplier": (None,),
    "attn_logit_softcapping": (None,),
    "clip_qkv": (None,),
    "kv_lora_rank": (None,),
    "q_lora_rank": (None,),
    "qk_layernorm": (False, None),
    "qk_norm": (False, None),
    "query_pre_attn_scalar": (None,),
    "sliding_window": (None,),
    "use_qk_norm": (False, None),
    "use_sliding_window": (False, None),
    # a mixture of experts
    "first_k_dense_replace": (None,),
    "moe_intermediate_size": (None, 0),
    "n_routed_experts": (None, 0),
    "n_shared_experts": (None, 0),
    "num_experts": (None, 0, 1),
    "num_experts_per_tok": (None, 0, 1),
    "num_local_experts": (None, 0, 1),
    # factors
    "embedding_multiplier": (1, None),
    "final_logit_softcapping": (None,),
    "logit_scale": (1, None),
    "logits_scaling": (1, None),
    "residual_multiplier": (1, None),
    "scale_depth": (None,),
    "scale_emb": (1, None),
    # another shape of the whole
    "add_cross_attention": (False, None),
    "is_encoder_decoder": (False, None),
    "parallel_attn": (False, None),
    "text_config": (None,),
    "use_parallel_residual": (False, None),
    "vision_config": (None,),
}

ROPE_FIXED: dict[str, tuple[object, ...]] = {"partial_rotary_factor": (1, None)}
ROPE_HARMLESS = {"finetuned"}  # of the 64K model: trained with its scaling

# Older checkpoints say here how to sample, where they have no generation_config.json.
GENERATION = {"do_sample", *FOLLOWED, *SAMPLING, *HARMLESS, *NEUTRAL, *SAMPLING_NEUTRAL}

KNOWN = {
    *READ,
    *FIXED,
    *GENERATION,
    "attention_dropout",  # of training, as the next ones
    "classifier_dropout",
    "embd_pdrop",
    "hidden_dropout",
    "initializer_range",
    "resid_pdrop",
    "auto_map",  # code of others, which transformers runs only when told to
    "chunk_size_feed_forward",
    "dtype",
    "finetuning_task",
    "gradient_checkpointing",
    "id2label",
    "max_window_layers",  # of a sliding window that is not used
    "label2id",
    "max_sequence_length",
    "name_or_path",
    "pretraining_tp",  # a way to add up the same products
    "problem_type",
    "return_dict",
    "sep_token_id",
    "task_specific_params",
    "tokenizer_class",
    "torch_dtype",
    "torchscript",
}
