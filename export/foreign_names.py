"""What tensor names that no Llama has say about a checkpoint."""

import re
from collections.abc import Collection

from export.errors import CheckpointError
from export.packing import BEFORE

__all__ = ["is_computed", "wrong_names"]

# Tables that the decoder computes itself, whatever they are called and wherever they lie.
COMPUTED = re.compile(
    r"(^|\.)(rotary\w*|rope\w*)\.|"
    r"(^|\.)((original_)?inv_freq|freqs(_cis)?|_?(cos|sin)(_cached?)?|cos_sin_cached?|causal_mask)$"
)
UNMERGED = "give its base, and the adapter with --lora"
CONVERT = "convert it for transformers"
DESCRIBE = "copy its quantization_config into config.json; it says how they are packed"
# What names are signs of, and what to do, the first that is found.
SIGNS = (
    (
        r"tok_embeddings|\.attention\.wq\.",
        "names of Meta's own files",
        CONVERT,
    ),
    (r"lora_|\.ia3_|modules_to_save|\.base_layer\.", "an adapter that is not merged", UNMERGED),
    (r"\.(qweight|qzeros|g_idx|scales)$", "weights of GPTQ or AWQ", DESCRIBE),
    (r"_scale(_inv)?$|_scales?$|\.[kv]_scale$", "scales of quantised weights", BEFORE),
    (r"\.(SCB|weight_format)$|\.absmax|quant_(map|state)", "weights of bitsandbytes", BEFORE),
    (r"experts|block_sparse_moe|mlp\.gate\.", "the experts of a mixture", "give a Llama model"),
    (r"\.bias$", "biases", "give a Llama model without biases"),
)
# A tensor that every Llama has, without what its name begins with.
PROBE = "layers.0.input_layernorm.weight"
UNWRAP = "save the model itself, without what was wrapped around it, or rename its tensors"


def is_computed(name: str) -> bool:
    """Whether a tensor is one that the decoder computes."""
    return COMPUTED.search(name) is not None


def wrong_names(missing: Collection[str], extra: Collection[str]) -> CheckpointError:
    """The error for names that do not fit: what they are a sign of, or which they are."""
    for pattern, what, next_step in SIGNS:
        found = [name for name in sorted(extra) if re.search(pattern, name)]
        if found:
            return CheckpointError(
                f"the checkpoint has {what}: it has unexpected {_some(found)}",
                next_step=next_step,
            )
    wrapped = [name for name in sorted(extra) if name.endswith(PROBE)]
    if wrapped and f"model.{PROBE}" in missing:
        return CheckpointError(
            "the names of the tensors do not begin as a Llama's do",
            got=f"{wrapped[0].removesuffix(PROBE)!r} before {PROBE}",
            allowed="'model.'",
            next_step=UNWRAP,
        )
    problem, names = ("lacks", missing) if missing else ("has unexpected", extra)
    return CheckpointError(
        f"the checkpoint {problem} {_some(sorted(names))}",
        next_step="check that config.json and the shards belong together",
    )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}"
