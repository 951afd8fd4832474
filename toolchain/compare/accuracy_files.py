"""Files of accuracy: of `toolchain eval`, and the classes of atb_speed_sdk."""

from pathlib import Path
from typing import Any, Self

from pydantic import ConfigDict, Field, model_validator

from runtime.record import Record
from toolchain.compare.side import CATEGORIES, Conditions, Count, Side
from toolchain.errors import CompareError

__all__ = ["Lenient", "is_classes", "read_classes", "read_evaluation"]

Document = Any  # what json.loads gives


class Lenient(Record):
    """A file that others write: what is not read here is not looked at."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class Score(Lenient):
    """Right answers of a category."""

    correct: int = Field(ge=0)
    total: Count

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.correct > self.total:
            raise ValueError(f"{self.correct} right answers of {self.total} questions")
        return self


class EvalSettings(Lenient):
    """Which questions were taken."""

    limit: Count | None = None


class EvalFile(Lenient):
    """What `toolchain eval` writes, as far as it is compared."""

    benchmark: str
    bundle: dict[str, str] = Field(default_factory=dict)
    style: str | None = None
    shots: int | None = None
    shortened: int | None = None
    data_sha256: str | None = None
    settings: EvalSettings | None = None
    categories: dict[str, Score]
    subjects: dict[str, Score] = Field(default_factory=dict)

    @property
    def conditions(self) -> Conditions:
        """What the accuracy depends on besides the model, as far as the file says."""
        limit = self.settings and (self.settings.limit or "all")
        found = {
            "style": self.style,
            "examples": self.shots,
            "with fewer examples": self.shortened,
            "questions": self.categories["Avg"].total if "Avg" in self.categories else None,
            "questions of each subject": limit,
            "subjects": ", ".join(self.subjects) or None,
            "data": self.data_sha256 and self.data_sha256[:12],
        }
        return {key: str(value) for key, value in found.items() if value is not None}


def read_evaluation(path: Path, document: Document) -> Side:
    """The result.json of `toolchain eval`.

    Raises:
        CompareError: another version.
        ValidationError: not its schema.
    """
    if document.get("version") != 1:
        raise CompareError(
            f"{path}: version of alpaca2-eval", got=document.get("version"), allowed="1"
        )
    evaluation = EvalFile.model_validate(document)
    scores = {key: score.correct / score.total for key, score in evaluation.categories.items()}
    return Side(
        name=evaluation.bundle.get("name", path.stem),
        accuracy=scores,
        benchmark=evaluation.benchmark,
        exam=evaluation.conditions,
    )


def read_classes(path: Path, document: Document) -> Side:
    """result_0_classes_acc.json, which says nothing of how it was made.

    Raises:
        CompareError: an accuracy is none.
    """
    shares = {key: document[key] for key in CATEGORIES}
    for key, share in shares.items():
        if type(share) not in (int, float) or not 0 <= share <= 1:
            raise CompareError(f"{path}: {key}", got=share, allowed="a share, 0 to 1")
    return Side(name=path.stem, accuracy=shares)


def is_classes(document: Document) -> bool:
    """Whether a document has an accuracy of every category."""
    return isinstance(document, dict) and document.keys() >= CATEGORIES.keys()
