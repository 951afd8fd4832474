"""Renders a chat template of others, in a process of its own whose time and memory are limited.

Reads one JSON object from standard input, writes a JSON list: for each conversation its `text`, or
the `error`. Run by chat_template.py as a script.
"""

import json
import resource
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # where the project lies

from runtime.text.jinja_template import Sandbox  # found there

CPU_SECONDS = 2
MEMORY_BYTES = 1 << 30
MAX_CHARACTERS = 100_000


def main() -> None:
    """Renders every conversation as the runtime does."""
    for limit, most in (
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(limit, (most, most))
    asked = json.load(sys.stdin)
    render = Sandbox().compiled(asked["template"])
    results = []
    for messages in asked["conversations"]:
        try:
            results.append({"text": render(messages, asked["tokens"])[:MAX_CHARACTERS]})
        except Exception as error:  # whatever a text of others does
            results.append({"error": f"{type(error).__name__}: {error}"[:1000]})
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
