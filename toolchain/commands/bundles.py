"""toolchain bundles DIR."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["command"]

COLUMNS = ("bundle", "stage", "target", "weights", "cache", "context", "slots", "size", "made from")


def command(
    directory: Annotated[Path, typer.Argument(help="Where to look, subdirectories included.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List the bundles of a directory by their manifests; `inspect` checks one."""
    import json

    from runtime.console import note, show_json
    from toolchain.bundle_list import find_bundles, summary
    from toolchain.console import print_table

    bundles, unreadable = find_bundles(directory)
    rows = [summary(bundle, directory) for bundle in bundles]
    if as_json:
        entries = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
        document = {"format": "alpaca2-bundles", "version": 1, "bundles": entries}
        show_json(json.dumps(document, ensure_ascii=False, indent=2))
    else:
        print_table(str(directory), COLUMNS, rows)
    for error in unreadable:
        note(f"left out: {error}")
