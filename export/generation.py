"""How the model's makers sample: generation_config.json, or config.json in older checkpoints."""

import json
from pathlib import Path
from typing import Any

from export.errors import CheckpointError
from runtime.bundle.manifest import ModelConfig
from runtime.bundle.reader import GENERATION_CONFIG
from runtime.errors import ParameterError
from runtime.json_file import read_object
from runtime.sampling.defaults import params_from
from runtime.sampling.generation_keys import FOLLOWED, NEUTRAL, SAMPLING, SAMPLING_NEUTRAL
from runtime.sampling.params import check_vocab

__all__ = ["read_generation"]

CONFIG = "config.json"
EOS = "eos_token_id"
LLAMA_EOS = 2  # of transformers' LlamaConfig
# What config.json may say of generation, besides much else.
KEYS = {"do_sample", *FOLLOWED, *SAMPLING, *NEUTRAL, *SAMPLING_NEUTRAL}


def read_generation(model: Path, config: ModelConfig, eos_token_id: int) -> bytes:
    """The generation_config.json of the bundle.

    Args:
        model: the model directory.
        config: the model, for the ids that it has.
        eos_token_id: the tokenizer's.

    Raises:
        CheckpointError: a setting that cannot be used or is not followed, by its file and key.
    """
    file, of_model = model / GENERATION_CONFIG, read_object(model / CONFIG, CheckpointError)
    if file.exists() or file.is_symlink():
        settings = read_object(file, CheckpointError)
        data = file.read_bytes()
        if settings.get(EOS) is None and of_model.get(EOS) is not None:
            settings[EOS] = of_model[EOS]
            data = _as_json(settings)
    else:
        file = model / CONFIG
        settings = {key: of_model[key] for key in sorted(KEYS & of_model.keys())}
        settings.setdefault(EOS, LLAMA_EOS)
        data = _as_json(settings)
    params = params_from(settings, str(file), eos_token_id, CheckpointError)
    try:
        check_vocab(params, config.vocab_size)
    except ParameterError as error:
        raise CheckpointError(f"{file}: {EOS}: {error}") from error
    return data


def _as_json(settings: dict[str, Any]) -> bytes:
    return json.dumps(settings).encode()
