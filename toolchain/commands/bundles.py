"""toolchain bundles DIR."""

from pathlib import Path
from typing import Annotated

import typer

from toolchain.options import AsJson, JsonFile

__all__ = ["command"]

# Of a summary, as many as 80 columns hold; an exported bundle is one for the target portable.
COLUMNS = ("bundle", "target", "weights", "cache", "context", "size", "made from")


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
    entries = [summary(bundle, directory) for bundle in bundles]
    if as_json or output is not None:
        give_document(document("bundles", {"bundles": entries}), output)
    else:
        rows = [[entry[column] for column in COLUMNS] for entry in entries]
        print_table(str(directory), COLUMNS, rows)
    for error in unreadable:
        note(f"left out: {error}")
