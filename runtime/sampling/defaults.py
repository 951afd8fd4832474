"""Reads a bundle's generation_config.json: what the model's makers sample with by default."""

import json
from typing import Any

from runtime.bundle.reader import GENERATION_CONFIG, Bundle
from runtime.errors import BundleError, ParameterError
from runtime.sampling.params import SamplingParams

__all__ = ["default_params"]

# Keys of generation_config.json that have a meaning here, under the same name in SamplingParams.
SAMPLING_KEYS = ("temperature", "top_k", "top_p", "min_p")


def default_params(bundle: Bundle, eos_token_id: int) -> SamplingParams:
    """The sampling defaults of the bundle; greedy unless it says do_sample.

    Args:
        bundle: where the file lies.
        eos_token_id: the tokenizer's, for a file that names none.

    Raises:
        BundleError: the file is not a JSON object, or one of its values is out of range.
    """
    unusable = f"{GENERATION_CONFIG} of {bundle.path} is unusable"
    try:
        items = json.loads(bundle.file(GENERATION_CONFIG).read_bytes()).items()
    except (ValueError, AttributeError, OSError, RecursionError) as error:
        raise BundleError(f"{unusable}: {error}") from error
    config: dict[str, Any] = {key: value for key, value in items if value is not None}
    eos = config.get("eos_token_id", eos_token_id)
    values: dict[str, Any] = {
        "stop_token_ids": tuple(eos) if isinstance(eos, list) else (eos,),
        "max_tokens": config.get("max_new_tokens"),
        "repetition_penalty": config.get("repetition_penalty", 1.0),
    }
    if config.get("do_sample") is True:
        values["temperature"] = 1.0  # what transformers takes when the file names none
        values |= {key: config[key] for key in SAMPLING_KEYS if key in config}
    try:
        return SamplingParams(**values)
    except ParameterError as error:
        raise BundleError(f"{unusable}: {error}") from error
