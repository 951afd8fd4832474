"""What the commands do with a model: open it with its settings, and sum up an answer."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from runtime.bundle.reader import Bundle, load_bundle
from runtime.commands.options import Settings
from runtime.completion import Completion, CompletionChunk
from runtime.console import LongWork, note, show
from runtime.engine.engine import Engine
from runtime.engine.scheduler import Policy, Scheduler
from runtime.sampling.defaults import default_params
from runtime.sampling.params import SamplingParams
from runtime.sessions import SessionOptions, open_session
from runtime.text.from_bundle import open_tokenizer
from runtime.text.tokenizer import Tokenizer

__all__ = ["load", "merged", "open_model", "print_answer", "summary", "without_effect"]

# Settings that choose among likely tokens, which greedy decoding does not do.
OF_SAMPLING = ("top_k", "top_p", "min_p", "seed")


def load(path: Path, settings: Settings) -> Bundle:
    """Opens a bundle, after the settings that it will be run with are known to be sound.

    Raises:
        ParameterError: a setting is out of its range.
        BundleError: the bundle cannot be used.
    """
    SamplingParams(**settings)  # refused before gigabytes are hashed
    return load_bundle(path, LongWork(), trust_unchanged=True)


@contextmanager
def open_model(
    bundle: Bundle, settings: Settings, options: SessionOptions
) -> Iterator[tuple[Scheduler, Tokenizer, SamplingParams]]:
    """Opens a session on a bundle and merges the settings given into its defaults.

    Args:
        bundle: what to run.
        settings: the sampling options; stop_token_ids are added to those of the model.
        options: of the session.

    Raises:
        BundleError: a file in the bundle cannot be used.
        ParameterError: a setting is out of its range.
        SessionError: the backend cannot run it.
    """
    tokenizer = open_tokenizer(bundle)
    params = merged(default_params(bundle, tokenizer.eos_token_id), settings)
    note_without_effect(settings, params)
    with closing(open_session(bundle, options)) as session:
        # The times of a run are told per token, so that no call may bring several.
        policy = Policy(speculate=options.trace is None)
        yield Scheduler(Engine(session), policy), tokenizer, params


def merged(defaults: SamplingParams, settings: Settings) -> SamplingParams:
    """The model's own settings with those that were chosen; tokens to stop at add up.

    Raises:
        ParameterError: a setting is out of its range.
    """
    stop_token_ids = (*defaults.stop_token_ids, *settings.get("stop_token_ids", ()))
    return SamplingParams(**{**defaults.model_dump(), **settings, "stop_token_ids": stop_token_ids})


def print_answer(chunks: Iterator[CompletionChunk]) -> Completion:
    """Prints an answer as it is made, and a line about it on stderr."""
    completion = None
    for chunk in chunks:
        show(chunk.text, end="")
        completion = chunk.completion
    assert completion is not None, "the last chunk sums up"
    show("")
    note(summary(completion))
    return completion


def without_effect(settings: Settings, params: SamplingParams) -> list[str]:
    """Which of the given settings cannot act, since none of the others lets them."""
    return [name for name in OF_SAMPLING if name in settings] if params.temperature == 0 else []


def note_without_effect(settings: Settings, params: SamplingParams) -> None:
    """Says once which of the given settings cannot act."""
    idle = without_effect(settings, params)
    if idle:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in idle)
        note(f"without effect at temperature 0, which takes the likeliest token: {options}")


def summary(completion: Completion) -> str:
    """One line about an answer: tokens, why it ended, times and rates."""
    timings = completion.timings
    parts = [
        f"{completion.prompt_tokens} prompt + {completion.completion_tokens} new tokens",
        f"finish {completion.finish_reason}",
        f"first token {timings.ttft_ms:.1f} ms ({timings.prefill_tokens_per_s:.0f} tokens/s)",
    ]
    if timings.tpot_ms is not None:
        rate = timings.decode_tokens_per_s
        parts.append(f"then {timings.tpot_ms:.2f} ms/token ({rate:.1f} tokens/s)")
    return f"[{', '.join(parts)}]"
