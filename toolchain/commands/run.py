"""toolchain run MODEL QUESTION."""

from pathlib import Path
from typing import Annotated

import typer

from toolchain.options import CacheOption, LoraOption, ProfileOption, WeightsOption

__all__ = ["command"]


def command(
    model: Annotated[Path, typer.Argument(help="Checkpoint directory, Hugging Face layout.")],
    question: Annotated[str, typer.Argument(help="The question.")],
    profile: ProfileOption = "cpu",
    weights: WeightsOption = None,
    kv_cache: CacheOption = None,
    lora: LoraOption = None,
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", "-n", min=1, help="Stop after this many tokens.")
    ] = None,
    cache_dir: Annotated[
        Path | None, typer.Option(help="Where compiled bundles are kept. Default: ~/.cache.")
    ] = None,
) -> None:
    """Export, compile and answer in one step; the second time it starts at once."""
    from profiles import load_profile
    from runtime.commands.model import open_model, print_answer
    from runtime.completion import stream_completion
    from runtime.console import note
    from runtime.sessions import SessionOptions
    from runtime.text.template import question as conversation
    from runtime.text.typed import from_argument
    from toolchain.bundle_cache import cached_bundle, default_cache
    from toolchain.choices import Choices
    from toolchain.console import ConsoleProgress

    asked = conversation(None, from_argument(question, "the question"))
    chosen = Choices(weights=weights, kv_cache=kv_cache).apply(load_profile(profile))
    with ConsoleProgress() as progress:
        bundle = cached_bundle(model, chosen, cache_dir or default_cache(), progress, lora)
    note(f"bundle {bundle.path}")
    settings = {} if max_tokens is None else {"max_tokens": max_tokens}
    with open_model(bundle, settings, SessionOptions()) as (engine, tokenizer, params):
        print_answer(stream_completion(engine, tokenizer, asked, params))
