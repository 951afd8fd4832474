"""Tables that a command writes into a page of the documents, between two marks."""

from collections.abc import Iterable
from pathlib import Path

__all__ = ["write_tables"]


def write_tables(page: Path, name: str, lines: Iterable[str]) -> None:
    """Replaces what is between `<!-- NAME -->` and `<!-- end of NAME -->`."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    before, _, rest = page.read_text(encoding="utf-8").partition(begin)
    after = rest.partition(end)[2]
    text = "\n".join(lines)
    page.write_text(f"{before}{begin}{text}\n{end}{after}", encoding="utf-8")
