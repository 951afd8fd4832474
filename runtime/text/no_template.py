"""The Template of a base model: it continues texts, and takes no messages."""

from collections.abc import Sequence
from typing import NoReturn

from runtime.errors import PromptError
from runtime.text.template import Encoder, Message

__all__ = ["NoTemplate"]


class NoTemplate:
    """A Template; see there for its methods."""

    default_system_prompt = None

    def text(self, tokenizer: Encoder, messages: Sequence[Message]) -> NoReturn:
        raise PromptError(
            "the model has no chat template",
            allowed="a plain text: generate --raw, or /v1/completions",
            next_step="put its chat_template.jinja beside the checkpoint and export it again",
            code="unsupported_parameter",
            param="messages",
        )

    encode = text
