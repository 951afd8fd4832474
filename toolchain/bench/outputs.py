"""The files of a run: tried before it, written after every case, read to go on from."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from runtime.errors import UserError
from runtime.json_file import read_object
from runtime.result_files import require_directory, require_file, write_named
from toolchain.bench.csv_file import write_csv
from toolchain.bench.grid import Case
from toolchain.bench.result import BenchResult, Setup
from toolchain.bench.tables import results_json

__all__ = ["Outputs"]

UNFINISHED = "unfinished.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """Where results go.

    json_file: the document.
    csv: a .csv file, or a directory for one per model and batch size.
    report: a directory for a page with plots, and all files.
    """

    json_file: Path | None = None
    csv: Path | None = None
    report: Path | None = None

    def require(self) -> None:
        """Refuses what could not be written after the measuring; makes the directories.

        Raises:
            UserError: a file or a directory that cannot be.
        """
        single = self.csv is not None and self.csv.suffix == ".csv"
        for directory in (self.report, None if single else self.csv):
            if directory is not None:
                require_directory(directory)
        for file in (self.json_file, self.csv if single else None, self._unfinished):
            if file is not None:
                require_file(file)

    @property
    def _unfinished(self) -> Path | None:
        """Beside a CSV, which has medians only: all figures, until the run is complete."""
        if self.csv is None:
            return None
        if self.csv.suffix == ".csv":
            return self.csv.with_name(f"{self.csv.name}.{UNFINISHED}")
        return self.csv / UNFINISHED

    @property
    def _documents(self) -> list[Path]:
        """Files that hold all figures of a run, complete or not."""
        page = None if self.report is None else self.report / "result.json"
        return [file for file in (self.json_file, page, self._unfinished) if file is not None]

    def earlier(self, setup: Setup, cases: Sequence[Case]) -> tuple[BenchResult | None, str]:
        """What an earlier run left of these cases, if its setup was the same; and words if not.

        What is no result is as good as nothing: it will be replaced.
        """
        words = ""
        for file in filter(Path.is_file, self._documents):
            for result in _results(file):
                other = setup.differences(result.setup)
                rows = tuple(row for row in result.rows if row.case in cases)
                if not other and rows:
                    return result.model_copy(update={"rows": rows}), ""
                if other and result.model == setup.model:
                    words = f"{file} has another {', '.join(other)}: measured again"
        return None, words

    def write(self, results: Sequence[BenchResult]) -> None:
        """All that needs no pictures; after every case."""
        self._write_documents(results)
        if self._unfinished is not None:
            write_named(self._unfinished, results_json(results) + "\n")
        if self.report is not None:
            from toolchain.bench.report import write_data  # brings matplotlib

            write_data(results, self.report)

    def leave(self, results: Sequence[BenchResult]) -> str:
        """Draws what an interrupted run has so far, and says how to go on.

        Returns:
            Words to end a sentence with.
        """
        if not results or not self._documents:
            return ""
        if self.report is not None:
            from toolchain.bench.report import write_report

            write_report(results, self.report)
        return "; they are kept, and the same command goes on from there"

    def finish(self, results: Sequence[BenchResult]) -> list[Path]:
        """Everything, of a complete run.

        Returns:
            The files written.
        """
        written = self._write_documents(results)
        if self.report is not None:
            from toolchain.bench.report import write_report

            written += write_report(results, self.report)
        if self._unfinished is not None:
            self._unfinished.unlink(missing_ok=True)
        return written

    def _write_documents(self, results: Sequence[BenchResult]) -> list[Path]:
        written = [] if self.csv is None else write_csv(results, self.csv)
        if self.json_file is not None:
            write_named(self.json_file, results_json(results) + "\n")
            written.append(self.json_file)
        return written


def _results(file: Path) -> list[BenchResult]:
    """What the file has, if it is of ours."""
    try:
        document = read_object(file, UserError)
        parts = document.get("results", [document])
        return [BenchResult.model_validate_json(json.dumps(part)) for part in parts]
    except (UserError, ValidationError, TypeError):
        return []
