"""Reads a bundle's generation_config.json: what the model's makers sample with by default."""

import json
from typing import Any

from runtime.bundle import GENERATION_CONFIG, Bundle
from runtime.errors import BundleError
from runtime.sampling import SamplingParams

__all__ = ["default_params"]

# Keys of generation_config.json that have a meaning here, under the same name in SamplingParams.
SAMPLING_KEYS = ("temperature", "top_k", "top_p", "min_p")


def default_params(bundle: Bundle) -> SamplingParams:
    """The sampling defaults of the bundle; greedy unless it says do_sample.

    Raises:
        BundleError: the file is not a JSON object.
        ParameterError: one of its values is out of range.
    """
    try:
        config: dict[str, Any] = json.loads(bundle.file(GENERATION_CONFIG).read_bytes())
        eos: int | list[int] = config.get("eos_token_id", [])
    except (ValueError, AttributeError, OSError) as error:
        raise BundleError(f"{GENERATION_CONFIG} of {bundle.path} is unusable: {error}") from error
    values: dict[str, Any] = {
        "stop_token_ids": (eos,) if isinstance(eos, int) else tuple(eos),
        "max_tokens": config.get("max_new_tokens"),
        "repetition_penalty": config.get("repetition_penalty", 1.0),
    }
    if config.get("do_sample", False):
        values["temperature"] = 1.0  # what transformers takes when the file names none
        values |= {key: config[key] for key in SAMPLING_KEYS if config.get(key) is not None}
    return SamplingParams(**values)
