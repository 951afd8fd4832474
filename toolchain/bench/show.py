"""Results to stdout."""

from collections.abc import Sequence

from toolchain.bench.result import Result
from toolchain.bench.tables import facts, markdown, result_tables
from toolchain.console import print_table

__all__ = ["print_results", "results_json"]

BRIEFLY = ("latency", "roofline")  # what a terminal gets; --markdown prints every table


def print_results(results: Sequence[Result], *, as_json: bool, as_markdown: bool) -> None:
    """Prints one JSON document, Markdown, or the tables that matter most."""
    if as_json:
        print(results_json(results))
    elif as_markdown:
        print(markdown(results))
    else:
        for result in results:
            print("\n".join(facts(result)))
            for table in result_tables(result):
                if table.title in BRIEFLY:
                    print_table(table.title, table.columns, table.rows)


def results_json(results: Sequence[Result]) -> str:
    """The document of one bundle, or an array of several."""
    documents = [result.model_dump_json(indent=2) for result in results]
    return documents[0] if len(documents) == 1 else "[" + ",\n".join(documents) + "]"
