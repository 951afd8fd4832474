"""A conversation as a file: its messages and the settings that were chosen, as JSON."""

import json
import os
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import TypeAdapter, ValidationError

from runtime.commands.chat_settings import field_named
from runtime.commands.options import Settings
from runtime.commands.private_file import write_private
from runtime.errors import ParameterError, PromptError, UserError
from runtime.json_file import parse_json, read_file
from runtime.record import Record, first_problem
from runtime.result_files import refused
from runtime.sampling.params import SamplingParams
from runtime.text.conversation import Conversation, from_messages
from runtime.text.template import Message

__all__ = ["SavedChat", "load_chat", "save_chat"]

FORMAT, VERSION = "alpaca2-chat", 1


class SavedChat(NamedTuple):
    """What a file holds: a conversation, and the settings that are not the model's own."""

    conversation: Conversation
    settings: Settings


class ChatFile(Record):
    """The document."""

    format: Literal["alpaca2-chat"]
    version: Literal[1]
    messages: tuple[Message, ...]
    settings: dict[str, Any]


def save_chat(file: Path, chat: SavedChat) -> None:
    """Writes a conversation that `load_chat` reads, for its owner alone.

    Raises:
        UserError: something else than a saved conversation is there, a link is, or the place
            cannot be written.
    """
    if os.path.lexists(file):
        _check_replaceable(file)
    document = {
        "format": FORMAT,
        "version": VERSION,
        "messages": [message.model_dump() for message in chat.conversation.messages],
        "settings": dict(chat.settings),
    }
    text = json.dumps(document, ensure_ascii=False, indent=2)
    write_private(file, f"{text}\n".encode())


def load_chat(file: Path) -> SavedChat:
    """Reads what `save_chat` wrote.

    Raises:
        UserError: the file is missing, no JSON, of another format or version, or what it says is
            no conversation or out of its range.
    """
    data = _read(file)
    try:
        document = ChatFile.model_validate_json(data)
        conversation = from_messages(document.messages)
        settings = _settings(document)
    except ValidationError as error:
        raise UserError(f"{file}: {first_problem(error)}") from error
    except (ParameterError, PromptError) as error:
        raise UserError(f"{file}: {error.what}", got=error.got, allowed=error.allowed) from error
    return SavedChat(conversation, settings)


def _settings(document: ChatFile) -> Settings:
    """The settings with the types of their fields, which JSON has not all of.

    Raises:
        ParameterError: there is no such setting, or it is out of its range.
    """
    settings = {name: _typed(field_named(name), value) for name, value in document.settings.items()}
    SamplingParams(**settings)  # which knows the ranges
    return settings


def _typed(field: str, value: object) -> Any:
    kind: Any = SamplingParams.model_fields[field].annotation
    try:
        return TypeAdapter(kind).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        raise ParameterError(f"{field}: {first_problem(error)}", param=field) from error


def _check_replaceable(file: Path) -> None:
    """Refuses to replace anything but an earlier conversation."""
    try:
        _read(file)
    except UserError as error:
        raise UserError(
            f"{file} is there and no saved conversation", next_step="choose another name"
        ) from error


def _read(file: Path) -> bytes:
    """The bytes of a file that is a saved conversation of this version.

    Raises:
        UserError: it is not.
    """
    try:
        data = read_file(file, UserError)
    except OSError as error:
        raise refused(file, error, "read") from error
    head = parse_json(data, str(file), UserError)
    if not isinstance(head, dict) or head.get("format") != FORMAT:
        raise UserError(
            f"{file} is no saved conversation",
            allowed=f"a file of format {FORMAT}, as /save writes it",
            next_step="give another name",
        )
    if head.get("version") != VERSION:
        raise UserError(
            f"{file} is of another version",
            got=json.dumps(head.get("version"))[:40],
            allowed=str(VERSION),
            next_step="use the release that wrote it, or give another name",
        )
    return data
