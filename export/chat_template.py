"""A checkpoint's chat template: which it is, and whether it can be rendered.

Alpaca-2's, in any spelling, is written by the runtime itself; another one goes into the bundle.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from export.errors import CheckpointError
from runtime.bundle.manifest import TemplateKind
from runtime.json_file import as_text, first_line, read_file, read_object
from runtime.text.alpaca2 import render
from runtime.text.template import Message

__all__ = ["ChatTemplate", "read_chat_template"]

RENDER = Path(__file__).with_name("render_template.py")
TIMEOUT = 60  # seconds; its own limit of processor time is reached before
KEY = "chat_template"
NEXT_STEP = "take the file that belongs to the checkpoint, or remove it"
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}  # stand for the ids that the runtime puts there
ASK = Message(role="user", content="Where is the box?")
ANSWER = Message(role="assistant", content="箱子在这里。")
MORE = Message(role="user", content="And now?\n再说一遍。")
SYSTEM = Message(role="system", content="Answer in one word.")
MUST_TAKE = ((ASK,), (ASK, ANSWER, MORE))  # every template; some take no system message
CONVERSATIONS = (*MUST_TAKE, (SYSTEM, ASK), (SYSTEM, ASK, ANSWER, MORE))


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatTemplate:
    """A template, and its source where the runtime cannot do without."""

    kind: TemplateKind
    source: str = ""


def read_chat_template(model: Path, settings: dict[str, Any]) -> ChatTemplate:
    """The chat template of a checkpoint; of kind `none` where there is none.

    Args:
        model: the model directory.
        settings: what tokenizer_config.json says.

    Raises:
        CheckpointError: it is no text, fails, or leaves questions out.
    """
    found = _template(model, settings)
    if found is None:
        return ChatTemplate(kind="none")
    place, source = found
    rendered = _rendered(place, source)
    if [each.get("text") for each in rendered] == list(map(_expected, CONVERSATIONS)):
        return ChatTemplate(kind="alpaca2")
    for conversation, each in zip(MUST_TAKE, rendered, strict=False):
        if "text" not in each:
            raise _refusal(place, "cannot be rendered", each["error"])
        if any(message.content not in each["text"] for message in conversation):
            raise _refusal(place, "leaves messages out", repr(each["text"][:60]))
    return ChatTemplate(kind="jinja", source=source)


def _template(model: Path, settings: dict[str, Any]) -> tuple[str, str] | None:
    """The template that transformers takes for a plain conversation, with where it stands."""
    file = model / "chat_template.jinja"
    if file.exists() or file.is_symlink():
        data = read_file(file, CheckpointError)
        try:
            return str(file), as_text(data)
        except UnicodeDecodeError as error:
            raise CheckpointError(f"{file} is not text: {first_line(error)}") from error
    file = model / "chat_template.json"
    if file.exists() or file.is_symlink():
        value = read_object(file, CheckpointError).get(KEY)
    else:
        file = model / "tokenizer_config.json"
        value = settings.get(KEY)
    return None if value is None else (f"{file}: {KEY}", _default(file, value))


def _default(place: Path, value: Any) -> str:
    """The text of a template, which may be one of several with names."""
    if isinstance(value, list):
        value = {each.get("name"): each.get("template") for each in value if isinstance(each, dict)}
    if isinstance(value, dict):
        value = value.get("default")
    if not isinstance(value, str):
        raise CheckpointError(f"{place}: {KEY} has no default that is a text", next_step=NEXT_STEP)
    return value


def _expected(conversation: tuple[Message, ...]) -> str:
    *answered, last = render(conversation)
    bos, eos = TOKENS["bos_token"], TOKENS["eos_token"]
    return "".join(f"{bos}{turn}{eos}" for turn in answered) + bos + last


def _rendered(place: str, template: str) -> list[dict[str, str]]:
    """For each conversation the prompt as `text`, or the `error` that the template makes of it."""
    conversations = [[message.model_dump() for message in each] for each in CONVERSATIONS]
    asked = {"template": template, "tokens": TOKENS, "conversations": conversations}
    try:
        done = subprocess.run(
            [sys.executable, "-IB", str(RENDER)],
            input=json.dumps(asked),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=TIMEOUT,
            check=True,
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        lines = str(error.stderr or "").strip().splitlines()
        got = lines[-1] if lines else "no answer within its limits"
        raise _refusal(place, "cannot be rendered", got) from error
    results: list[dict[str, str]] = json.loads(done.stdout)
    return results


def _refusal(place: str, why: str, got: str) -> CheckpointError:
    return CheckpointError(f"{place}: the chat template {why}", got=got[:200], next_step=NEXT_STEP)
