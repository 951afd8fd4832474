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
from runtime.console import note, show, show_json

if TYPE_CHECKING:
    from runtime.completion import Completion
    from runtime.engine.sequence import Logprobs

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
    answers: Annotated[
        int, typer.Option(min=1, max=64, help="Make this many answers, side by side.")
    ] = 1,
    best_of: Annotated[
        int | None,
        typer.Option(
            min=1, max=64, help="Make this many and keep those with the likeliest tokens."
        ),
    ] = None,
    profile_run: Annotated[
        bool, typer.Option("--profile-run", help="Tell where the time went; for short answers.")
    ] = False,
) -> None:
    """Answer one prompt; the answer goes to stdout as it is made."""
    from runtime.commands.model import load, open_model, print_answer
    from runtime.commands.prompt import read_prompt
    from runtime.completion import complete, complete_many, stream_completion
    from runtime.sessions import SessionOptions
    from runtime.text.template import question
    from runtime.text.typed import from_argument

    if logprobs is not None and not as_json:
        raise typer.BadParameter("only --json shows them.", param_hint="'--logprobs'")
    if best_of is not None and best_of < answers:
        raise typer.BadParameter(f"fewer than --answers {answers}.", param_hint="'--best-of'")

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
            arguments = (scheduler, tokenizer, asked, params, stops)
            if answers > 1 or best_of is not None:
                made = complete_many(*arguments, num_answers=answers, best_of=best_of)
                completion = made[0]
                _show_many(made, as_json, logprobs is not None)
            elif as_json:
                completion = complete(*arguments)
                show_json(
                    json.dumps(
                        _document(completion, logprobs is not None), ensure_ascii=False, indent=2
                    )
                )
            else:
                completion = print_answer(stream_completion(*arguments))
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


def _show_many(completions: "list[Completion]", as_json: bool, logprobs: bool) -> None:
    from runtime.commands.model import summary

    if as_json:
        documents = [_document(completion, logprobs) for completion in completions]
        _show_document({"completions": documents})
        return
    for i, completion in enumerate(completions, 1):
        note(f"answer {i} of {len(completions)}:")
        show(completion.text)
        note(summary(completion))


def _show_document(document: dict[str, object]) -> None:
    show_json(json.dumps(document, ensure_ascii=False, indent=2))


def _document(completion: "Completion", logprobs: bool) -> dict[str, object]:
    """The completion as JSON; log-probabilities where they were asked for."""
    document = asdict(completion)
    del document["logprobs"]
    if completion.logprobs is not None:
        document["mean_logprob"] = completion.mean_logprob
        pairs = zip(completion.token_ids, completion.logprobs, strict=True)
        if logprobs:
            document["logprobs"] = [_as_logprobs(*pair) for pair in pairs]
    return document


def _as_logprobs(token_id: int, logprobs: "Logprobs") -> dict[str, object]:
    """One token of the document: its log-probability, and the likeliest in its place."""
    likeliest = [{"token_id": i, "logprob": logprob} for i, logprob in logprobs.top]
    return {"token_id": token_id, "logprob": logprobs.logprob, "top_logprobs": likeliest}
