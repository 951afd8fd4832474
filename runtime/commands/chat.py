"""runtime chat COMPILED."""

import re
import sys
from collections.abc import Iterator
from select import select

from runtime.commands.options import (
    BundlePath,
    DeviceIndex,
    Settings,
    Stop,
    System,
    Threads,
    with_sampling_options,
)
from runtime.console import note

__all__ = ["command"]

COMMAND = re.compile(r"/[a-z]+")
PASTE_SECONDS = 0.02  # within which the next line of a paste is there


@with_sampling_options
def command(
    bundle: BundlePath,
    settings: Settings,
    stop: Stop = None,
    system: System = None,
    device: DeviceIndex = 0,
    threads: Threads = None,
) -> None:
    """Talk with the model; /reset forgets, /exit or end of input leaves."""
    from runtime.commands.model import load, open_model, print_answer
    from runtime.completion import stream_completion
    from runtime.errors import PromptError
    from runtime.sessions import SessionOptions
    from runtime.text.template import Message, opening
    from runtime.text.typed import from_argument

    if system is not None:
        system = from_argument(system, "--system")
    stops = [from_argument(each, "--stop") for each in stop or ()]
    options = SessionOptions(device=device, threads=threads)
    with open_model(load(bundle, settings), settings, options) as (scheduler, tokenizer, params):
        messages = opening(system)
        note("/reset forgets the conversation, /exit leaves.")
        for line in _questions():
            if line == "/reset":
                messages = opening(system)
                note("forgotten")
                continue
            if COMMAND.fullmatch(line):
                note(f"no such command: {line}; there are /reset and /exit")
                continue
            asked = [*messages, Message(role="user", content=line)]
            try:
                chunks = stream_completion(scheduler, tokenizer, asked, params, stops)
                answer = print_answer(chunks).text
            except PromptError as error:
                note(f"error: {error}; or /reset")
                continue
            except KeyboardInterrupt:
                note("\nstopped; the question is forgotten")
                continue
            messages = [*asked, Message(role="assistant", content=answer)]


def _questions() -> Iterator[str]:
    """What a person types or pastes, question by question, until /exit or the end of input."""
    from runtime.commands.prompt import typed_line
    from runtime.errors import PromptError

    for lines in _typed():
        try:
            question = typed_line(lines).strip()
        except PromptError as error:
            note(f"error: {error}")
            continue
        if question == "/exit":
            return
        if question:
            yield question


def _typed() -> Iterator[str]:
    """Lines of standard input; of a terminal, all that was pasted at once."""
    if sys.stdin is None:
        return
    if not sys.stdin.isatty():
        yield from sys.stdin
        return
    import readline  # noqa: F401, gives input() history and editing

    while True:
        try:
            lines = [input("> ")]
            while select([sys.stdin], [], [], PASTE_SECONDS)[0]:
                lines.append(input())
        except EOFError:
            return
        yield "\n".join(lines)
