"""A checkpoint's chat template: the runtime writes Alpaca-2's prompts, others are refused."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from export.errors import CheckpointError
from runtime.json_file import as_text, first_line, read_file, read_object
from runtime.text.template import Message, render

__all__ = ["check_chat_template"]

RENDER = Path(__file__).with_name("render_template.py")
TIMEOUT = 60  # seconds; its own limit of processor time is reached before
KEY = "chat_template"
NEXT_STEP = (
    "remove it if the model was trained with Alpaca-2's prompts; a model with others cannot be "
    "exported"
)
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}  # stand for the ids that the runtime puts there
ASK = Message(role="user", content="Where is the box?")
ANSWER = Message(role="assistant", content="箱子在这里。")
MORE = Message(role="user", content="And now?\n再说一遍。")
SYSTEM = Message(role="system", content="Answer in one word.")
CONVERSATIONS = (
    (SYSTEM, ASK),
    (SYSTEM, ASK, ANSWER, MORE),
    (ASK,),
    (ASK, ANSWER, MORE),
)


def check_chat_template(model: Path, settings: dict[str, Any]) -> None:
    """Refuses a chat template that writes other prompts than the runtime does.

    Args:
        model: the model directory.
        settings: what tokenizer_config.json says.

    Raises:
        CheckpointError: with the first place where the prompts part.
    """
    for place, template in _templates(model, settings):
        for theirs, conversation in zip(_rendered(place, template), CONVERSATIONS, strict=True):
            ours = _expected(conversation)
            if theirs != ours:
                start = max(0, _first_difference(theirs, ours) - 10)  # with what is before it
                raise CheckpointError(
                    f"{place}: the chat template is not Alpaca-2's",
                    got=repr(theirs[start : start + 60]),
                    allowed=repr(ours[start : start + 60]),
                    next_step=NEXT_STEP,
                )


def _templates(model: Path, settings: dict[str, Any]) -> list[tuple[str, str]]:
    """The template that transformers takes for a plain conversation, with where it stands."""
    file = model / "chat_template.jinja"
    if file.exists() or file.is_symlink():
        data = read_file(file, CheckpointError)
        try:
            return [(str(file), as_text(data))]
        except UnicodeDecodeError as error:
            raise CheckpointError(f"{file} is not text: {first_line(error)}") from error
    found: list[tuple[Path, Any]] = [(model / "tokenizer_config.json", settings.get(KEY))]
    file = model / "chat_template.json"
    if file.exists() or file.is_symlink():
        found.append((file, read_object(file, CheckpointError).get(KEY)))
    return [(f"{place}: {KEY}", text) for place, value in found for text in _default(place, value)]


def _default(place: Path, value: Any) -> list[str]:
    """The text of a template, which may be one of several with names."""
    if value is None:
        return []
    if isinstance(value, list):
        value = {each.get("name"): each.get("template") for each in value if isinstance(each, dict)}
    if isinstance(value, dict):
        value = value.get("default")
    if not isinstance(value, str):
        raise CheckpointError(f"{place}: {KEY} has no default that is a text", next_step=NEXT_STEP)
    return [value]


def _expected(conversation: tuple[Message, ...]) -> str:
    *answered, last = render(conversation)
    bos, eos = TOKENS["bos_token"], TOKENS["eos_token"]
    return "".join(f"{bos}{turn}{eos}" for turn in answered) + bos + last


def _rendered(place: str, template: str) -> list[str]:
    """The prompts that a template writes."""
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
        raise CheckpointError(
            f"{place}: the chat template is not Alpaca-2's: it cannot be rendered",
            got=lines[-1][:200] if lines else "no answer within its limits",
            next_step=NEXT_STEP,
        ) from error
    texts: list[str] = json.loads(done.stdout)
    return texts


def _first_difference(one: str, other: str) -> int:
    pairs = zip(one, other, strict=False)
    same = next((i for i, (a, b) in enumerate(pairs) if a != b), None)
    return min(len(one), len(other)) if same is None else same
