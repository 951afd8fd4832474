"""What can be said to a chat besides a question: one table, from which /help is printed."""

import os
import re
import shutil
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from runtime.commands.chat_file import SavedChat, load_chat, save_chat
from runtime.commands.chat_session import Chat
from runtime.commands.chat_settings import DEFAULT, field_named, setting_rows, value_of
from runtime.commands.model import without_effect
from runtime.console import note
from runtime.errors import UserError
from runtime.text.conversation import Conversation

__all__ = ["COMMANDS", "run_command"]

WORD = re.compile(r"/[a-z?]*")
KEYS = (
    ("\\ at the end", "The text goes on in the next line."),
    ('""" ... """', "A text of several lines; a question even where it begins with /."),
    ("Ctrl-C", "Stop the answer. What is there of it stays in the conversation."),
    ("Ctrl-D", "Leave."),
)


@dataclass(frozen=True, slots=True)
class Command:
    """What stands after its name, what it does, and what does it, given that text.

    takes_lines: whether that may be several lines. Of another command they are a question.
    """

    usage: str
    help: str
    run: Callable[[Chat, str], None]
    takes_lines: bool = False


def run_command(chat: Chat, text: str) -> bool:
    """Does what a text says that is a command; False for one that is a question.

    Raises:
        EOFError: it leaves the chat.
        UserError: it cannot be done.
    """
    name, *argument = text.split(maxsplit=1)
    command = COMMANDS.get(name)
    if not WORD.fullmatch(name) or ("\n" in text and not (command and command.takes_lines)):
        return False
    if command is None:
        note(f'no such command: {name}; /help lists them, and quotes ask: """{name} ..."""')
        return True
    command.run(chat, argument[0] if argument else "")
    return True


def _help(chat: Chat, argument: str) -> None:
    commands = [(f"{name} {each.usage}".strip(), each.help) for name, each in COMMANDS.items()]
    _note_rows([*commands, *KEYS])


def _system(chat: Chat, text: str) -> None:
    if text:
        system = {DEFAULT: None, "none": ""}.get(text, text)
        chat.conversation = replace(chat.conversation, system=system)
    system = chat.conversation.system
    if system is None:
        system = chat.tokenizer.template.default_system_prompt
    shown = "the template's own" if system is None else system or "none"
    note(f"system prompt: {shown}")


def _reset(chat: Chat, argument: str) -> None:
    chat.conversation = Conversation(system=chat.conversation.system)
    note("forgotten")


def _set(chat: Chat, argument: str) -> None:
    if not argument:
        _note_rows(setting_rows(chat.settings, chat.params))
        note("* chosen here, on the command line or by /load; the others are the model's own")
        return
    name, *value = argument.split(maxsplit=1)
    field = field_named(name)
    if value == [DEFAULT]:
        chat.settings.pop(field, None)
    elif value:
        chat.settings[field] = value_of(field, value[0])
    _note_rows([row for row in setting_rows(chat.settings, chat.params) if row[0] == field])
    if field in chat.settings and without_effect({field: chat.settings[field]}, chat.params):
        note("without effect at temperature 0, which takes the likeliest token")


def _save(chat: Chat, argument: str) -> None:
    file = _file(argument)
    save_chat(file, SavedChat(chat.conversation, chat.settings))
    note(f"saved {_turns(chat)} and {_count(len(chat.settings), 'setting')} to {file}")


def _load(chat: Chat, argument: str) -> None:
    file = _file(argument)
    loaded = load_chat(file)
    chat.conversation, chat.settings = loaded.conversation, dict(loaded.settings)
    note(f"loaded {_turns(chat)} and {_count(len(chat.settings), 'setting')} from {file}")


def _stats(chat: Chat, argument: str) -> None:
    totals, held, room = chat.totals, chat.held_tokens, chat.context_len
    rows = [
        ("context", f"{held} of {room} tokens ({held / room:.0%}), {_turns(chat)}"),
        ("answers", f"{totals.finished} finished, {totals.stopped} stopped"),
        ("new tokens", f"{totals.new_tokens}"),
        ("reused", f"{chat.reused_fraction:.0%} of all prompt tokens, from the cache"),
    ]
    if totals.finished:
        rate = totals.prompt_tokens / totals.first_token_s
        rows.append(("prompts", f"{rate:.0f} tokens/s to the first token, with those reused"))
    if totals.later_tokens:
        rate = totals.later_tokens / totals.later_s
        rows.append(("answering", f"{rate:.1f} tokens/s after the first token"))
    _note_rows(rows)


def _leave(chat: Chat, argument: str) -> None:
    raise EOFError  # as the end of input does


COMMANDS = {
    "/help": Command("", "List the commands.", _help),
    "/system": Command(
        "TEXT", "Set the system prompt, default or none; alone: show it.", _system, takes_lines=True
    ),
    "/reset": Command("", "Forget the conversation, not the system prompt and settings.", _reset),
    "/set": Command(
        "NAME VALUE",
        "Set temperature, seed ...; VALUE default takes it back; alone: show all.",
        _set,
    ),
    "/save": Command("FILE", "Save the conversation and the settings as JSON.", _save),
    "/load": Command("FILE", "Go on with a saved conversation and its settings.", _load),
    "/stats": Command("", "Tokens, rates, what the conversation takes of the cache.", _stats),
    "/exit": Command("", "Leave.", _leave),
    "/bye": Command("", "Leave.", _leave),
}


def _file(argument: str) -> Path:
    if not argument:
        raise UserError("no file is named", allowed="/save FILE or /load FILE")
    return Path(os.path.expanduser(argument))


def _turns(chat: Chat) -> str:
    return _count(len(chat.conversation.turns), "turn")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _note_rows(rows: Sequence[tuple[str, ...]]) -> None:
    """Notes a table; its last column is folded where the terminal ends."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    indent = "  ".ljust(2 + sum(widths) + 2 * len(widths))
    width = max(shutil.get_terminal_size().columns - 1, len(indent) + 20)
    for *cells, last in rows:
        start = "  " + "".join(f"{cell:{w}}  " for cell, w in zip(cells, widths, strict=True))
        note(textwrap.fill(last, width, initial_indent=start, subsequent_indent=indent))
