"""runtime generate COMPILED PROMPT."""

import json
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
    Threads,
    with_sampling_options,
)
from runtime.console import note, show_json

if TYPE_CHECKING:
    from runtime.completion import Completion
    from runtime.engine.sequence import Logprobs, Token

__all__ = ["command"]


@with_sampling_options
def command(
    bundle: BundlePath,
    settings: Settings,
    prompt: Annotated[
        str | None,
        typer.Argument(
            metavar="PROMPT",
            help="The question; - reads standard input. Put -- before one that begins with -.",
        ),
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="Read the question from this file.")
    ] = None,
    stop: Stop = None,
    system: System = None,
    device: DeviceIndex = 0,
    threads: Threads = None,
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
    from runtime.commands.model import load, open_model, print_answer
    from runtime.commands.prompt import read_prompt
    from runtime.completion import stream_completion
    from runtime.sessions import SessionOptions
    from runtime.text.template import question
    from runtime.text.typed import from_argument

    if logprobs is not None and not as_json:
        raise typer.BadParameter("only --json shows them.", param_hint="'--logprobs'")

    # What is wrong with the text is refused before gigabytes are hashed.
    text = read_prompt(prompt, file)
    system = None if system is None else from_argument(system, "--system")
    asked = text if raw else question(system, text)
    stops = [from_argument(each, "--stop") for each in stop or ()]
    settings = {**settings, "logprobs": logprobs}
    loaded = load(bundle, settings)
    with _trace_directory(profile_run) as trace:
        options = SessionOptions(trace=trace, device=device, threads=threads)
        with open_model(loaded, settings, options) as (scheduler, tokenizer, params):
            chunks = stream_completion(scheduler, tokenizer, asked, params, stops)
            if as_json:
                *_, last = made = list(chunks)
                assert last.completion is not None, "the last chunk sums up"
                completion = last.completion
                show_json(_document(completion, [chunk.token for chunk in made]))
            else:
                completion = print_answer(chunks)
        if trace is not None:
            _note_times(trace, completion)


@contextmanager
def _trace_directory(wanted: bool) -> Iterator[Path | None]:
    if not wanted:
        yield None
        return
    with TemporaryDirectory() as directory:
        yield Path(directory)


def _note_times(trace: Path, completion: "Completion") -> None:
    from runtime.profile_run import describe, read_trace

    note("\n".join(describe(read_trace(trace), completion)))


def _document(completion: "Completion", tokens: list["Token"]) -> str:
    """The completion as JSON; log-probabilities where they were asked for."""
    document = asdict(completion)
    logprobs = [_as_logprobs(token.id, token.logprobs) for token in tokens if token.logprobs]
    if logprobs:
        document["logprobs"] = logprobs
    return json.dumps(document, ensure_ascii=False, indent=2)


def _as_logprobs(token_id: int, logprobs: "Logprobs") -> dict[str, object]:
    """One token of the document: its log-probability, and the likeliest in its place."""
    likeliest = [{"token_id": i, "logprob": logprob} for i, logprob in logprobs.top]
    return {"token_id": token_id, "logprob": logprobs.logprob, "top_logprobs": likeliest}
