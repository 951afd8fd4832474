"""What the commands do with a model: open it with its settings, and sum up an answer."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from runtime.bundle.reader import TOKENIZER, load_bundle
from runtime.commands.options import Settings
from runtime.completion import Completion
from runtime.engine.engine import Engine
from runtime.sampling.defaults import default_params
from runtime.sampling.params import SamplingParams
from runtime.sessions import open_session
from runtime.text.tokenizer import Tokenizer

__all__ = ["open_model", "summary"]


@contextmanager
def open_model(
    path: Path, settings: Settings, device: int, trace: Path | None = None
) -> Iterator[tuple[Engine, Tokenizer, SamplingParams]]:
    """Opens a bundle and merges the settings given into its defaults.

    Args:
        path: directory of the bundle.
        settings: the sampling options; stop_token_ids are added to those of the model.
        device: which device of the box.
        trace: directory where closing the session leaves the times of all kernels.

    Raises:
        BundleError: the bundle or a file in it cannot be used.
        ParameterError: a setting is out of its range.
        SessionError: the backend cannot run it.
    """
    bundle = load_bundle(path)
    tokenizer = Tokenizer(bundle.file(TOKENIZER))
    defaults = default_params(bundle, tokenizer.eos_token_id)
    stop_token_ids = (*defaults.stop_token_ids, *settings.get("stop_token_ids", ()))
    merged = {**defaults.model_dump(), **settings, "stop_token_ids": stop_token_ids}
    params = SamplingParams(**merged)
    with closing(open_session(bundle, trace, device)) as session:
        yield Engine(session), tokenizer, params


def summary(completion: Completion) -> str:
    """One line about an answer: tokens, why it ended, times."""
    timings = completion.timings
    parts = [
        f"{completion.prompt_tokens} prompt + {completion.completion_tokens} new tokens",
        f"finish {completion.finish_reason}",
        f"first token {timings.ttft_ms:.1f} ms",
    ]
    if timings.tpot_ms is not None:
        parts.append(f"then {timings.tpot_ms:.2f} ms/token")
    return f"[{', '.join(parts)}]"
