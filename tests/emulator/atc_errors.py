"""How ATC says that it failed: the block of text that follows `ATC run failed`."""

import os
import time
from dataclasses import dataclass

__all__ = ["FAILED_LINE", "AtcError", "inner_error"]

# ge, api/atc/main_impl.cc, CheckRet.
FAILED_LINE = "ATC run failed, Please check the detail log, Try 'atc --help' for more information"


@dataclass
class AtcError(Exception):
    """An error with a code of ge, docs/en/user_guides/error_codes.

    The layout is that of runtime, src/dfx/error_manager/error_manager.cc, GetErrorMessage.
    """

    code: str
    message: str
    cause: str = ""
    solution: str = ""
    title: str = "Invalid_Argument"

    def block(self) -> str:
        """The text that ATC prints."""
        stamp = time.strftime("%Y-%m-%d-%H:%M:%S") + ".000.000"
        head = f"[PID: {os.getpid()}] {stamp} {self.title}({self.code}): {self.message}"
        if self.code == "E19999":
            trace = "TraceBack (most recent call last):"
            return f"E19999: Internal error!\n{head}\n{trace}\n       {self.message}\n"
        lines = [head]
        if self.cause:
            lines.append(f"        Possible Cause: {self.cause}")
        if self.solution:
            lines.append(f"        Solution: {self.solution}")
        lines += ["TraceBack (most recent call last):", "        [Run][Atc]emulated failure"]
        return "\n".join(lines) + "\n"


def inner_error(message: str) -> AtcError:
    """An error inside of the compiler, which has no text of its own."""
    return AtcError("E19999", message, title="Inner_Error")
