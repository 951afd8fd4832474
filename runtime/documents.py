"""Results as JSON documents, which say their format and version."""

import json
from collections.abc import Mapping
from pathlib import Path

from runtime.console import show_json
from runtime.result_files import write_named

__all__ = ["document", "give_document"]


def document(kind: str, content: Mapping[str, object], version: int = 1) -> str:
    """A JSON document of format alpaca2-{kind}."""
    values = {"format": f"alpaca2-{kind}", "version": version, **content}
    return json.dumps(values, ensure_ascii=False, indent=2)


def give_document(text: str, file: Path | None) -> None:
    """Writes a document to a file, or to stdout where none is given.

    Raises:
        UserError: the file cannot be written.
    """
    if file is None:
        show_json(text)
    else:
        write_named(file, f"{text}\n")
