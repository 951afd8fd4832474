"""What an answer is bound to: what a request says of it, as data, and what sampling asks of it.

Knows no grammar; runtime/constrain makes a Constraint of a ConstraintSpec.
"""

from collections.abc import Callable, Sequence
from typing import Literal, Protocol, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import model_validator

from runtime.record import Record

__all__ = ["Constraint", "ConstraintKind", "ConstraintSpec", "StartConstraint"]

ConstraintKind = Literal["json_schema", "regex", "choice", "lark"]


class ConstraintSpec(Record):
    """What the text of an answer must be: of a JSON schema, a regular expression, a grammar.

    value: the schema, expression or grammar as text; of a choice, the answers that are allowed.
    """

    kind: ConstraintKind
    value: str | tuple[str, ...]

    @model_validator(mode="after")
    def _check_value(self) -> Self:
        if isinstance(self.value, str) == (self.kind == "choice"):
            raise ValueError("a choice has a list of texts, every other kind one text")
        return self


class Constraint(Protocol):
    """Follows one answer token by token."""

    @property
    def ended(self) -> bool:
        """Whether the answer is complete, and no token can follow."""

    def allowed(self) -> NDArray[np.bool_]:
        """Which ids may come next, (vocab,): never none, and never one that has no text.

        A token that ends the answer is allowed where the answer may end.

        Raises:
            SessionError: no id may, or finding out takes more than the limits allow.
        """

    def accept(self, token_id: int) -> None:
        """Goes on by an id that is allowed.

        Raises:
            SessionError: going on takes more than the limits allow.
        """

    def valid_prefix(self, token_ids: Sequence[int]) -> int:
        """How many of these ids, from the first on, could be accepted one after the other."""

    def rollback(self, num_tokens: int) -> None:
        """Takes back the last ids that were accepted."""


StartConstraint: TypeAlias = Callable[[], Constraint]  # a new one, for each answer of a request
