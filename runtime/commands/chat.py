"""runtime chat COMPILED."""

import sys
from collections.abc import Iterator

from runtime.commands.options import (
    BundlePath,
    DeviceIndex,
    Settings,
    Stop,
    System,
    with_sampling_options,
)
from runtime.console import note

__all__ = ["command"]


@with_sampling_options
def command(
    bundle: BundlePath,
    settings: Settings,
    stop: Stop = None,
    system: System = None,
    device: DeviceIndex = 0,
) -> None:
    """Talk with the model; /reset forgets, /exit or end of input leaves."""
    from runtime.commands.model import open_model, summary
    from runtime.completion import stream_completion
    from runtime.errors import PromptError
    from runtime.text.template import Message, opening

    with open_model(bundle, settings, device) as (engine, tokenizer, params):
        messages = opening(system)
        note("/reset forgets the conversation, /exit leaves.")
        for line in _lines():
            if line == "/reset":
                messages = opening(system)
                note("forgotten")
                continue
            asked = [*messages, Message(role="user", content=line)]
            try:
                for chunk in stream_completion(engine, tokenizer, asked, params, stop or ()):
                    print(chunk.text, end="", flush=True)
            except PromptError as error:
                note(f"error: {error}; or /reset")
                continue
            except KeyboardInterrupt:
                note("\nstopped; the question is forgotten")
                continue
            print()
            assert chunk.completion is not None, "the last chunk sums up"
            note(summary(chunk.completion))
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
