"""toolchain bundles DIR."""

from pathlib import Path
from typing import Annotated

import typer

from toolchain.options import AsJson, JsonFile

__all__ = ["command"]

COLUMNS = ("bundle", "stage", "target", "weights", "cache", "context", "slots", "size", "made from")


def command(
    directory: Annotated[Path, typer.Argument(help="Where to look, subdirectories included.")],
    as_json: AsJson = False,
    output: JsonFile = None,
) -> None:
    """List the bundles of a directory by their manifests; `inspect` checks one."""
    from runtime.console import note
    from runtime.documents import document, give_document
    from toolchain.bundle_list import find_bundles, summary
    from toolchain.console import print_table

    bundles, unreadable = find_bundles(directory)
    rows = [summary(bundle, directory) for bundle in bundles]
    if as_json or output is not None:
        entries = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
        give_document(document("bundles", {"bundles": entries}), output)
    else:
        print_table(str(directory), COLUMNS, rows)
    for error in unreadable:
        note(f"left out: {error}")
