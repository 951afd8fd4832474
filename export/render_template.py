"""Renders a chat template of others, in a process of its own whose time and memory are limited.

Reads one JSON object from standard input, writes a JSON list of texts. Run by chat_template.py as
a script, so it knows nothing of the project.
"""

import json
import resource
import sys
from typing import NoReturn

from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

CPU_SECONDS = 2
MEMORY_BYTES = 1 << 30
MAX_CHARACTERS = 100_000


def refuse(message: str) -> NoReturn:
    """What a template calls that does not take a conversation."""
    raise TemplateError(message)


def main() -> None:
    """Renders every conversation with transformers' settings of Jinja."""
    for limit, most in (
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (most, most))
    asked = json.load(sys.stdin)
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols]
    )
    environment.globals["raise_exception"] = refuse
    template = environment.from_string(asked["template"])
    texts = [
        template.render(messages=messages, add_generation_prompt=True, **asked["tokens"])
        for messages in asked["conversations"]
    ]
    json.dump([text[:MAX_CHARACTERS] for text in texts], sys.stdout)


if __name__ == "__main__":
    main()
