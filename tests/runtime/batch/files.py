"""Batch files for the tests, and what is the same about two answers to the same request."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"


def request(custom_id: str, url: str = TEXT, **body: Any) -> dict[str, Any]:
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


def write_lines(file: Path, lines: Iterable[object]) -> Path:
    """Objects become JSON; texts are written as they are."""
    texts = (each if isinstance(each, str) else json.dumps(each) for each in lines)
    file.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return file


def read_lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_bytes().splitlines()]


def by_id(file: Path) -> dict[str, dict[str, Any]]:
    """The lines by their custom_id, each of which stands once."""
    lines = read_lines(file)
    named = {line["custom_id"]: line for line in lines}
    assert len(named) == len(lines)
    return named


def same(body: dict[str, Any]) -> dict[str, Any]:
    """A body without what is another each time."""
    return {key: value for key, value in body.items() if key not in ("id", "created")}
