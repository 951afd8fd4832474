"""The command line on the device: generate and chat with a compiled bundle.

Heavy imports stand inside the commands, so that --help answers at once.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from io import TextIOWrapper
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer

from runtime.console import make_app, note, run_app

if TYPE_CHECKING:
    from runtime.completion import Completion
    from runtime.engine.engine import Engine
    from runtime.sampling.params import SamplingParams
    from runtime.text.template import Message
    from runtime.text.tokenizer import Tokenizer

__all__ = ["app", "main"]

app = make_app("Run a compiled bundle.")

BundlePath = Annotated[Path, typer.Argument(metavar="COMPILED", help="Directory of the bundle.")]
MaxTokens = Annotated[int | None, typer.Option(help="Stop after this many tokens.")]
Temperature = Annotated[float | None, typer.Option(help="0 takes the likeliest token.")]
TopK = Annotated[int | None, typer.Option(help="Keep the k likeliest tokens; 0 keeps all.")]
TopP = Annotated[float | None, typer.Option(help="Keep the likeliest tokens up to this mass.")]
MinP = Annotated[float | None, typer.Option(help="Keep tokens this close to the likeliest.")]
Repetition = Annotated[float | None, typer.Option(help="Above 1: repeat less.")]
Presence = Annotated[float | None, typer.Option(help="Penalty once a token was generated.")]
Frequency = Annotated[float | None, typer.Option(help="Penalty per time it was generated.")]
Seed = Annotated[int | None, typer.Option(help="The same seed gives the same answer.")]
DeviceIndex = Annotated[int, typer.Option("--device", min=0, help="Which device of the box.")]
Stop = Annotated[list[str] | None, typer.Option(help="End before this text; repeatable.")]
System = Annotated[str | None, typer.Option(help="System prompt; empty for none.")]


@contextmanager
def _model(
    path: Path, settings: Mapping[str, object], device: int, trace: Path | None = None
) -> Iterator[tuple["Engine", "Tokenizer", "SamplingParams"]]:
    """Opens a bundle and merges the settings given into its defaults."""
    from runtime.bundle.reader import TOKENIZER, load_bundle
    from runtime.engine.engine import Engine
    from runtime.sampling.defaults import default_params
    from runtime.sampling.params import SamplingParams
    from runtime.sessions import open_session
    from runtime.text.tokenizer import Tokenizer

    bundle = load_bundle(path)
    given = {name: value for name, value in settings.items() if value is not None}
    tokenizer = Tokenizer(bundle.file(TOKENIZER))
    defaults = default_params(bundle, tokenizer.eos_token_id)
    params = SamplingParams(**{**defaults.model_dump(), **given})
    with closing(open_session(bundle, trace, device)) as session:
        yield Engine(session), tokenizer, params


@app.command()
def generate(
    bundle: BundlePath,
    prompt: Annotated[str, typer.Argument(help="The question; - reads standard input.")],
    max_tokens: MaxTokens = None,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    min_p: MinP = None,
    repetition_penalty: Repetition = None,
    presence_penalty: Presence = None,
    frequency_penalty: Frequency = None,
    seed: Seed = None,
    stop: Stop = None,
    system: System = None,
    device: DeviceIndex = 0,
    raw: Annotated[bool, typer.Option("--raw", help="Continue the text; no template.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    profile_run: Annotated[
        bool, typer.Option("--profile-run", help="Tell where the time went; for short answers.")
    ] = False,
) -> None:
    """Answer one prompt; the answer goes to stdout as it is made."""
    from runtime.completion import stream_completion

    settings = {
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
        "presence_penalty": presence_penalty,
        "frequency_penalty": frequency_penalty,
        "seed": seed,
    }
    with _trace_directory(profile_run) as trace:
        with _model(bundle, settings, device, trace) as (engine, tokenizer, params):
            text = sys.stdin.read().removesuffix("\n") if prompt == "-" else prompt
            question = text if raw else _messages(system, text)
            completion = None
            for chunk in stream_completion(engine, tokenizer, question, params, stop or ()):
                completion = chunk.completion
                if not as_json:
                    print(chunk.text, end="", flush=True)
        assert completion is not None, "the last chunk sums up"
        if as_json:
            print(json.dumps(_as_json(completion), ensure_ascii=False, indent=2))
        else:
            print()
            note(_summary(completion))
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


@app.command()
def chat(
    bundle: BundlePath,
    max_tokens: MaxTokens = None,
    temperature: Temperature = None,
    top_k: TopK = None,
    top_p: TopP = None,
    seed: Seed = None,
    system: System = None,
    device: DeviceIndex = 0,
) -> None:
    """Talk with the model; /reset forgets, /exit or end of input leaves."""
    from runtime.completion import stream_completion
    from runtime.errors import PromptError
    from runtime.text.template import Message

    settings = {
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "seed": seed,
    }
    with _model(bundle, settings, device) as (engine, tokenizer, params):
        opening = [] if system is None else [Message(role="system", content=system)]
        messages = list(opening)
        note("/reset forgets the conversation, /exit leaves.")
        for line in _lines():
            if line == "/reset":
                messages = list(opening)
                note("forgotten")
                continue
            asked = [*messages, Message(role="user", content=line)]
            try:
                for chunk in stream_completion(engine, tokenizer, asked, params):
                    print(chunk.text, end="", flush=True)
            except PromptError as error:
                note(f"error: {error}; or /reset")
                continue
            except KeyboardInterrupt:
                note("\nstopped; the question is forgotten")
                continue
            print()
            assert chunk.completion is not None, "the last chunk sums up"
            note(_summary(chunk.completion))
            messages = [*asked, Message(role="assistant", content=chunk.completion.text)]


def _lines() -> Iterator[str]:
    """What a person types, line by line, until /exit or the end of input."""
    if sys.stdin.isatty():
        import readline  # noqa: F401, gives input() history and editing
    while True:
        try:
            line = input("> " if sys.stdin.isatty() else "").strip()
        except EOFError:
            return
        if line == "/exit":
            return
        if line:
            yield line


def _messages(system: str | None, text: str) -> list["Message"]:
    from runtime.text.template import Message

    opening = [] if system is None else [Message(role="system", content=system)]
    return [*opening, Message(role="user", content=text)]


def _as_json(completion: "Completion") -> dict[str, object]:
    from dataclasses import asdict

    return asdict(completion)


def _summary(completion: "Completion") -> str:
    timings = completion.timings
    parts = [
        f"{completion.prompt_tokens} prompt + {completion.completion_tokens} new tokens",
        f"finish {completion.finish_reason}",
        f"first token {timings.ttft_ms:.1f} ms",
    ]
    if timings.tpot_ms is not None:
        parts.append(f"then {timings.tpot_ms:.2f} ms/token")
    return f"[{', '.join(parts)}]"


def main() -> None:
    """Entry point of the `runtime` script."""
    if isinstance(sys.stdin, TextIOWrapper):  # what is not UTF-8 comes in as it does from argv
        sys.stdin.reconfigure(errors="surrogateescape")
    run_app(app)
