"""Calls of pyACL, each checked: what fails becomes a named error with the driver's own words.

pyACL's functions give a code, a value and a code, or a handle that is 0 when they fail; a wrong
TYPE of argument raises TypeError, which is a bug of ours. Sources: hicann/runtime, python/pyACL.
"""

import importlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from runtime.errors import SessionError

__all__ = ["ALREADY_INITIALISED", "Acl"]

OK = 0
ALREADY_INITIALISED = 100002  # by another session of this process; counts a reference

# hicann/runtime, docs/zh/api_ref/25-01_aclError.md
MEANINGS = {
    100000: "invalid parameter",
    100001: "not initialised",
    107000: "invalid parameter of the runtime",
    107002: "no context on this thread",
    107003: "stream of another context",
    145000: "invalid parameter of a model",
    145003: "no such model",
    145011: "dynamic dimensions without an address",
    145012: "dynamic dimensions that the model does not have",
    145013: "dynamic dimensions of no gear",
    207001: "the device is out of memory",
    207018: "the device is out of memory",
    245000: "the device is out of memory",
    245002: "the device is out of memory",
    507011: "the model's stream failed",
    507014: "an AI core ran into its time limit",
    507015: "an AI core raised an exception",
    507018: "an AI CPU raised an exception",
    507046: "waiting for the stream took too long",
    507899: "the driver failed",
    545601: "the model ran into its time limit",
}
FAMILIES = {
    1: "wrong use",
    2: "a resource is missing",
    3: "the work could not be done",
    5: "inside the driver",
}
OUT_OF_MEMORY = {207001, 207018, 245000, 245002}


class Acl:
    """The functions of pyACL by name, for example "rt.malloc"."""

    def __init__(self) -> None:
        """Imports pyACL.

        Raises:
            SessionError: it is not on this machine.
        """
        try:
            self._module: Any = importlib.import_module("acl")
        except ImportError as error:  # the package, or a library that it loads
            raise SessionError(
                "the Python package acl cannot be imported",
                got=str(error),
                next_step="install the driver and CANN, and source its set_env.sh in this shell; "
                "`toolchain doctor` says what is missing",
            ) from error

    def do(self, name: str, *arguments: object, allowed: tuple[int, ...] = ()) -> None:
        """Calls a function that gives a code.

        Raises:
            SessionError: the code is neither 0 nor one of those allowed.
        """
        code = self._function(name)(*arguments)
        if code != OK and code not in allowed:
            raise self.failure(name, code)

    def get(self, name: str, *arguments: object) -> Any:
        """Calls a function that gives values and a code; a single value comes by itself.

        Raises:
            SessionError: the code is not 0.
        """
        *values, code = self._function(name)(*arguments)
        if code != OK:
            raise self.failure(name, code)
        return values[0] if len(values) == 1 else tuple(values)

    def make(self, name: str, *arguments: object) -> Any:
        """Calls a function that gives a handle, a number or a text, none of them 0 or empty.

        Raises:
            SessionError: it is.
        """
        made = self._function(name)(*arguments)
        if not made:
            raise self.failure(name, None)
        return made

    def release(self, name: str, *arguments: object) -> None:
        """Calls a function that gives something back, once more where it fails.

        Raises:
            SessionError: it failed, even if the second time it did not.
        """
        try:
            self.do(name, *arguments)
        except SessionError:
            with suppress(SessionError):
                self.do(name, *arguments)
            raise

    def finalize(self) -> None:
        """Ends this session's use of the driver, and the driver with the last one.

        A CANN without acl.finalize_reference counts no sessions: the first one ends it for all.

        Raises:
            SessionError: as release.
        """
        if not hasattr(self._module, "finalize_reference"):
            self.release("finalize")
            return
        try:
            self.get("finalize_reference")
        except SessionError:
            with suppress(SessionError):
                self.get("finalize_reference")
            raise

    def _function(self, name: str) -> Callable[..., Any]:
        found = self._module
        for part in name.split("."):
            found = getattr(found, part)
        function: Callable[..., Any] = found
        return function

    def failure(self, name: str, code: int | None) -> SessionError:
        """The error for a code, or for a handle that was not given."""
        said = self._module.get_recent_err_msg()  # read once: the driver forgets it
        text = "no handle" if code is None else f"{code}, {_meaning(code)}"
        next_step = (
            "close what else uses the device, or compile with int8 weights or a shorter cache"
            if code in OUT_OF_MEMORY
            else "see the driver's log in ~/ascend/log/debug/plog"
        )
        return SessionError(
            f"acl.{name} failed", got=f"{text}: {said}" if said else text, next_step=next_step
        )


def _meaning(code: int) -> str:
    return MEANINGS.get(code, FAMILIES.get(code // 100_000, "unknown code"))
