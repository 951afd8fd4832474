"""runtime generate COMPILED PROMPT."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.commands.options import (
    AsJson,
    BundlePath,
    Choices,
    DeviceIndex,
    JsonFile,
    JsonSchemaFile,
    LarkFile,
    Regex,
    Settings,
    Stop,
    System,
    Threads,
    with_sampling_options,
)
from runtime.console import note, show

if TYPE_CHECKING:
    from runtime.completion import Completion
    from runtime.engine.sequence import Logprobs

__all__ = ["command"]


Prompt = Annotated[
    str | None,
    typer.Argument(
        metavar="PROMPT",
        help="The question; - reads standard input. Put -- before one that begins with -.",
    ),
]
File = Annotated[
    Path | None, typer.Option("--file", "-f", help="Read the question from this file.")
]
Raw = Annotated[bool, typer.Option("--raw", help="Continue the text; no template.")]
NumLogprobs = Annotated[
    int | None,
    typer.Option(help="In the document: log-probabilities, and the likeliest 0 to 20 tokens."),
]
Answers = Annotated[int, typer.Option(min=1, max=64, help="Make this many answers, side by side.")]
BestOf = Annotated[
    int | None,
    typer.Option(min=1, max=64, help="Make this many and keep those with the likeliest tokens."),
]
ProfileRun = Annotated[
    bool, typer.Option("--profile-run", help="Tell where the time went; for short answers.")
]


@with_sampling_options
def command(
    bundle: BundlePath,
    settings: Settings,
    prompt: Prompt = None,
    file: File = None,
    stop: Stop = None,
    system: System = None,
    json_schema: JsonSchemaFile = None,
    regex: Regex = None,
    choice: Choices = None,
    lark: LarkFile = None,
    device: DeviceIndex = 0,
    threads: Threads = None,
    raw: Raw = False,
    as_json: AsJson = False,
    output: JsonFile = None,
    logprobs: NumLogprobs = None,
    answers: Answers = 1,
    best_of: BestOf = None,
    profile_run: ProfileRun = False,
) -> None:
    """Answer one prompt; the answer goes to stdout as it is made."""
    from runtime.commands.constraint import read_constraint, starter
    from runtime.commands.model import load, open_model, print_answer
    from runtime.commands.prompt import read_prompt
    from runtime.completion import complete, complete_many, stream_completion
    from runtime.documents import give_document
    from runtime.result_files import require_file
    from runtime.sessions import SessionOptions
    from runtime.text.template import question
    from runtime.text.typed import from_argument

    wants_document = as_json or output is not None
    _check_usage(answers, best_of, logprobs, wants_document)
    # What is wrong with texts, files or the place is refused before gigabytes are hashed.
    if output is not None:
        require_file(output)
    bound = read_constraint(json_schema, regex, choice, lark)
    text = read_prompt(prompt, file)
    system = None if system is None else from_argument(system, "--system")
    asked = text if raw else question(system, text)
    stops = [from_argument(each, "--stop") for each in stop or ()]
    settings = {**settings, "logprobs": logprobs, "constraint": bound}
    loaded = load(bundle, settings)
    with _trace_directory(profile_run) as trace:
        options = SessionOptions(trace=trace, device=device, threads=threads)
        with open_model(loaded, settings, options) as (scheduler, tokenizer, params):
            start = starter(params, tokenizer, scheduler.engine.vocab_size, at_start=not raw)
            arguments = (scheduler, tokenizer, asked, params, stops, start)
            if is_many := answers > 1 or best_of is not None:
                made = complete_many(*arguments, num_answers=answers, best_of=best_of)
            elif wants_document:
                made = [complete(*arguments)]
            else:
                made = [print_answer(stream_completion(*arguments))]
        if wants_document:
            give_document(_as_document(made, is_many, logprobs is not None), output)
        elif is_many:
            _show_many(made)
        if trace is not None:
            _note_times(trace, made[0])


def _check_usage(
    answers: int, best_of: int | None, logprobs: int | None, wants_document: bool
) -> None:
    if logprobs is not None and not wants_document:
        raise typer.BadParameter("only --json and -o show them.", param_hint="'--logprobs'")
    if best_of is not None and best_of < answers:
        raise typer.BadParameter(f"fewer than --answers {answers}.", param_hint="'--best-of'")


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


def _show_many(completions: "list[Completion]") -> None:
    from runtime.commands.model import summary

    for i, completion in enumerate(completions, 1):
        note(f"answer {i} of {len(completions)}:")
        show(completion.text)
        note(summary(completion))


def _as_document(completions: "list[Completion]", is_many: bool, logprobs: bool) -> str:
    """One answer as JSON, or a list of them."""
    from runtime.documents import document

    contents = [_content(completion, logprobs) for completion in completions]
    if is_many:
        return document("completions", {"completions": contents})
    return document("completion", contents[0])


def _content(completion: "Completion", logprobs: bool) -> dict[str, object]:
    """The completion as JSON; log-probabilities where they were asked for."""
    content = asdict(completion)
    del content["logprobs"]
    if completion.logprobs is not None:
        content["mean_logprob"] = completion.mean_logprob
        pairs = zip(completion.token_ids, completion.logprobs, strict=True)
        if logprobs:
            content["logprobs"] = [_as_logprobs(*pair) for pair in pairs]
    return content


def _as_logprobs(token_id: int, logprobs: "Logprobs") -> dict[str, object]:
    """One token of the document: its log-probability, and the likeliest in its place."""
    likeliest = [{"token_id": i, "logprob": logprob} for i, logprob in logprobs.top]
    return {"token_id": token_id, "logprob": logprobs.logprob, "top_logprobs": likeliest}
