"""runtime chat COMPILED."""

from runtime.commands.options import (
    BundlePath,
    DeviceIndex,
    Settings,
    Stop,
    System,
    Threads,
    with_sampling_options,
)

__all__ = ["command"]


@with_sampling_options
def command(
    bundle: BundlePath,
    settings: Settings,
    stop: Stop = None,
    system: System = None,
    device: DeviceIndex = 0,
    threads: Threads = None,
) -> None:
    """Talk with the model; /help lists the commands, /exit or Ctrl-D leaves."""
    from runtime.commands.chat_loop import converse
    from runtime.commands.chat_session import Chat
    from runtime.commands.model import load, open_model
    from runtime.commands.typed_lines import open_lines
    from runtime.sampling.defaults import default_params
    from runtime.sessions import SessionOptions
    from runtime.text.conversation import Conversation
    from runtime.text.typed import from_argument

    if system is not None:
        system = from_argument(system, "--system")
    stops = [from_argument(each, "--stop") for each in stop or ()]
    options = SessionOptions(device=device, threads=threads)
    loaded = load(bundle, settings)
    with open_model(loaded, settings, options) as (scheduler, tokenizer, _):
        chat = Chat(
            scheduler=scheduler,
            tokenizer=tokenizer,
            defaults=default_params(loaded, tokenizer.eos_token_id),
            settings=dict(settings),
            stops=stops,
            conversation=Conversation(system=system),
        )
        converse(chat, open_lines())
