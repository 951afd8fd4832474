"""How a Python function becomes a function of pyACL: arguments, counters, planned failures.

A body takes the State and the arguments. pyACL raises TypeError for a wrong type and returns
codes for all else; what a failure looks like depends on what the function gives.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np

from tests.emulator import codes
from tests.emulator.state import State

__all__ = ["FUNCTIONS", "Function", "acl_function", "failure"]

Body = TypeVar("Body", bound=Callable[..., Any])

FUNCTIONS: Final[dict[str, "Function"]] = {}

_FAILURES: Final[dict[str, Callable[[int], Any]]] = {
    "ret": lambda code: code,
    "pair": lambda code: (0, code),
    "triple": lambda code: (0, 0, code),
    "version": lambda code: (0, 0, 0, code),
    "dict": lambda code: ({}, code),
    "list": lambda code: ([], code),
    "int": lambda code: 0,
    "text": lambda code: "",
    "void": lambda code: None,
}
_TYPES: Final[dict[str, type]] = {"s": str, "d": dict, "b": bytes, "l": list, "a": np.ndarray}


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """One function: name without `acl.`, one letter per argument, optional ones after `|`."""

    name: str
    signature: str
    gives: str
    code: int  # of a planned failure
    context: bool  # whether the thread must have one
    early: bool  # whether it may come before acl.init
    body: Callable[..., Any]

    def call(self, state: State, *arguments: Any) -> Any:
        """Calls it as pyACL would."""
        with state.lock:
            state.calls[self.name] += 1
            values = self._checked(arguments)
            planned = state.planned_failure(self.name, self.code)
            if planned is not None and self.gives != "void":
                return failure(self.gives, planned)
            if not self.early and not state.num_inits:
                # That every function minds a missing acl.init is a guess; it is always a mistake.
                state.violate(f"{self.name}: called without acl.init")
                return failure(self.gives, codes.UNINITIALIZE)
            if self.context and state.context is None:
                return failure(self.gives, codes.RT_CONTEXT_NULL)
            return self.body(state, *values)

    def _checked(self, arguments: tuple[Any, ...]) -> list[Any]:
        needed, _, optional = self.signature.partition("|")
        letters = needed + optional
        if not len(needed) <= len(arguments) <= len(letters):
            raise self._refused()
        return [
            self._value(letter, value) for letter, value in zip(letters, arguments, strict=False)
        ]

    def _value(self, letter: str, value: Any) -> Any:
        if letter == "o":
            return value
        if letter == "i":
            try:
                return operator.index(value)
            except TypeError:
                raise self._refused() from None
        if not isinstance(value, _TYPES[letter]):
            raise self._refused()
        return value

    def _refused(self) -> TypeError:
        return TypeError(f"acl.{self.name} args parse failed!")


def failure(gives: str, code: int) -> Any:
    """What a function that gives such a thing returns when it fails."""
    return _FAILURES[gives](code)


def acl_function(
    name: str,
    signature: str = "",
    *,
    gives: str = "ret",
    code: int = codes.RT_PARAM_INVALID,
    context: bool = False,
    early: bool = False,
) -> Callable[[Body], Body]:
    """Adds the function to the table; the emulator makes modules of it."""

    def register(body: Body) -> Body:
        FUNCTIONS[name] = Function(
            name=name,
            signature=signature,
            gives=gives,
            code=code,
            context=context,
            early=early,
            body=body,
        )
        return body

    return register
