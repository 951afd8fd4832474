"""The CSV of atb_speed_sdk's performance test: its file names and exactly its columns."""

import csv
import re
from collections.abc import Iterator, Sequence
from io import StringIO
from pathlib import Path

from runtime.errors import ParameterError
from runtime.result_files import write_file, write_named
from toolchain.bench.result import BenchResult, Row

__all__ = ["COLUMNS", "check_names", "write_csv"]

COLUMNS = (
    "batch_size",
    "input_seq_len(Encoding)",
    "output_seq_len(Decoding)",
    "ResponseTime(s)",
    "forward_first_token_time(ms)",
    "forward_next_token_time(ms)",
    "pre_next_token_time(ms)",
    "post_next_token_time_post(ms)",
)


def check_names(names: Sequence[str], path: Path | None) -> None:
    """Refuses, before anything is measured, what could not be told apart afterwards.

    Raises:
        ParameterError: two bundles of one name, or one CSV for several.
    """
    if len(set(names)) < len(names):
        raise ParameterError(
            "two bundles have the same name",
            got=", ".join(names),
            allowed="directories of different names, and --model-name for one bundle alone",
            param="model_name",
        )
    if len(names) > 1 and path is not None and path.suffix == ".csv":
        raise ParameterError(
            "--csv: the columns do not say which bundle a row is of",
            got=f"{len(names)} bundles for {path}",
            allowed="a directory, which gets a file for each",
            param="csv",
        )


def write_csv(results: Sequence[BenchResult], path: Path) -> list[Path]:
    """Writes all rows to a .csv file, or a file per model and batch size to a directory.

    Returns:
        The files written.

    Raises:
        UserError: they cannot be written.
    """
    if path.suffix == ".csv":
        write_named(path, _text([row for result in results for row in result.rows]))
        return [path]
    written = []
    for result in results:
        for batch_size, rows in _by_batch(result.rows):
            file = path / _file_name(result, batch_size)
            write_file(file, _text(rows))
            written.append(file)
    return written


def _by_batch(rows: Sequence[Row]) -> Iterator[tuple[int, list[Row]]]:
    for batch_size in dict.fromkeys(row.batch_size for row in rows):
        yield batch_size, [row for row in rows if row.batch_size == batch_size]


def _file_name(result: BenchResult, batch_size: int) -> str:
    """As the original: a CPU is called cpu, whichever it is."""
    device = "cpu" if result.device == result.machine.cpu else result.device
    names = [re.sub(r"[^\w.-]", "_", name) for name in (result.model, device)]
    return f"performance_test_{'_'.join(names)}_bs{batch_size}.csv"


def _text(rows: Sequence[Row]) -> str:
    file = StringIO()
    writer = csv.writer(file)
    writer.writerow(COLUMNS)
    for row in rows:
        writer.writerow(
            (
                row.batch_size,
                row.input_tokens,
                row.output_tokens,
                row.response_s.median,
                row.forward_first_ms.median,
                row.forward_next_ms.median,
                row.pre_next_ms.median,
                row.post_next_ms.median,
            )
        )
    return file.getvalue()
