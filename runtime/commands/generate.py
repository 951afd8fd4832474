"""runtime generate COMPILED PROMPT."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.commands.options import (
    BundlePath,
    DeviceIndex,
    Settings,
    Stop,
    System,
    with_sampling_options,
)
from runtime.console import note

if TYPE_CHECKING:
    from runtime.engine.generate import Token

__all__ = ["command"]


@with_sampling_options
def command(
    bundle: BundlePath,
    prompt: Annotated[str, typer.Argument(help="The question; - reads standard input.")],
    settings: Settings,
    stop: Stop = None,
    system: System = None,
    device: DeviceIndex = 0,
    raw: Annotated[bool, typer.Option("--raw", help="Continue the text; no template.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    logprobs: Annotated[
        int | None,
        typer.Option(help="With --json: log-probabilities, and the likeliest 0 to 20 tokens."),
    ] = None,
    profile_run: Annotated[
        bool, typer.Option("--profile-run", help="Tell where the time went; for short answers.")
    ] = False,
) -> None:
    """Answer one prompt; the answer goes to stdout as it is made."""
    from runtime.commands.model import open_model, summary
    from runtime.completion import stream_completion
    from runtime.text.template import Message, opening

    if logprobs is not None and not as_json:
        raise typer.BadParameter("only --json shows them.", param_hint="'--logprobs'")
    settings = {**settings, "logprobs": logprobs}
    with _trace_directory(profile_run) as trace:
        with open_model(bundle, settings, device, trace) as (engine, tokenizer, params):
            text = sys.stdin.read().removesuffix("\n") if prompt == "-" else prompt
            question = text if raw else [*opening(system), Message(role="user", content=text)]
            completion, tokens = None, []
            for chunk in stream_completion(engine, tokenizer, question, params, stop or ()):
                completion = chunk.completion
                tokens.append(chunk.token)
                if not as_json:
                    print(chunk.text, end="", flush=True)
        assert completion is not None, "the last chunk sums up"
        if as_json:
            document = asdict(completion)
            if logprobs is not None:
                document["logprobs"] = [_as_logprobs(token) for token in tokens]
            print(json.dumps(document, ensure_ascii=False, indent=2))
        else:
            print()
            note(summary(completion))
        if trace is not None:
            from runtime.profile_run import describe, read_trace

            note("\n".join(describe(read_trace(trace), completion)))


@contextmanager
def _trace_directory(wanted: bool) -> Iterator[Path | None]:
    if not wanted:
        yield None
        return
    with TemporaryDirectory() as directory:
        yield Path(directory)


def _as_logprobs(token: "Token") -> dict[str, object]:
    """One token of the document: its log-probability, and the likeliest in its place."""
    likeliest = [{"token_id": i, "logprob": logprob} for i, logprob in token.top_logprobs]
    return {"token_id": token.id, "logprob": token.logprob, "top_logprobs": likeliest}
