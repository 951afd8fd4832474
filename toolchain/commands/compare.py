"""toolchain compare OURS THEIRS."""

from typing import Annotated

import typer

from toolchain.options import AsJson, JsonFile

__all__ = ["command"]

RESULT = "File of a result, or manual:910b3, or manual:a100."


def command(
    ours: Annotated[str, typer.Argument(help=RESULT)],
    theirs: Annotated[
        str, typer.Argument(help="The result to compare with: of another device or engine.")
    ],
    as_json: AsJson = False,
    output: JsonFile = None,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
) -> None:
    """Compare two results; a ratio above 1 means that OURS is better.

    Results are JSON of `toolchain bench`, `toolchain eval` or llama-bench, or the CSV of a
    performance test.
    """
    from runtime.console import show
    from runtime.documents import give_document
    from toolchain.compare.comparison import compare
    from toolchain.compare.read import read_side
    from toolchain.compare.tables import comparison_json, comparison_tables
    from toolchain.console import print_table
    from toolchain.table import markdown_table

    comparison = compare(read_side(ours), read_side(theirs))
    if as_json or output is not None:
        give_document(comparison_json(comparison), output)
        return
    for line in comparison.differences:
        show(line)
    for table in comparison_tables(comparison):
        if as_markdown:
            show("\n".join(("", f"**{table.title}**", "", *markdown_table(table), "")))
        else:
            print_table(table.title, table.columns, table.rows)
    for note in comparison.notes:
        show(f"- {note}")
