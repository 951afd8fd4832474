"""THE TABLES of generation_config.json: which keys are followed, and which change nothing.

The keys are those of transformers' GenerationConfig. A key in none of the tables is refused.
"""

__all__ = ["FOLLOWED", "HARMLESS", "NEUTRAL", "SAMPLING", "SAMPLING_NEUTRAL"]

# Key -> field of SamplingParams, in every mode and with do_sample only.
FOLLOWED = {
    "eos_token_id": "stop_token_ids",
    "max_length": "max_length",
    "max_new_tokens": "max_tokens",
    "repetition_penalty": "repetition_penalty",
}
SAMPLING = {
    "min_p": "min_p",
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
}

# Keys that are not followed, with the values that change nothing; null never does.
NEUTRAL: dict[str, tuple[object, ...]] = {
    "assistant_ensemble_weight": (),
    "bad_words_ids": ([],),
    "begin_suppress_tokens": ([],),
    "constraints": ([],),
    "diversity_penalty": (0,),
    "dola_layers": (),
    "encoder_no_repeat_ngram_size": (0,),
    "encoder_repetition_penalty": (1,),
    "exponential_decay_length_penalty": (),
    "force_words_ids": ([],),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "guidance_scale": (1,),
    "max_time": (),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "no_repeat_ngram_size": (0,),
    "num_beam_groups": (1,),
    "num_beams": (1,),
    "num_return_sequences": (1,),
    "penalty_alpha": (0,),
    "sequence_bias": ({}, []),
    "stop_strings": ([],),
    "suppress_tokens": ([],),
    "token_healing": (False,),
    "watermarking_config": (),
}
SAMPLING_NEUTRAL: dict[str, tuple[object, ...]] = {
    "epsilon_cutoff": (0,),
    "eta_cutoff": (0,),
    "top_h": (),
    "typical_p": (1,),
}

# Keys that change no token, whatever their value: ids that nothing here uses, what is given back
# besides, how the cache is kept, what only beams or a draft model would read.
HARMLESS = frozenset(
    (
        "assistant_confidence_threshold",
        "assistant_early_exit",
        "assistant_lookbehind",
        "bos_token_id",
        "cache_config",
        "cache_implementation",
        "compile_config",
        "continuous_batching_config",
        "decoder_start_token_id",
        "disable_compile",
        "early_stopping",
        "is_assistant",
        "length_penalty",
        "low_memory",
        "max_cache_len",
        "max_matching_ngram_size",
        "num_assistant_tokens",
        "num_assistant_tokens_schedule",
        "output_attentions",
        "output_hidden_states",
        "output_logits",
        "output_scores",
        "pad_token_id",
        "prefill_chunk_size",
        "prompt_lookup_num_tokens",
        "remove_invalid_values",
        "renormalize_logits",
        "return_dict_in_generate",
        "return_legacy_cache",
        "speculation_type",
        "target_lookbehind",
        "transformers_version",
        "use_cache",
        "use_mtp",
    )
)
