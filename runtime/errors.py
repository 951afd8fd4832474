"""What can go wrong, as named errors that a person can act on.

UserError                one line: what, got, allowed, next step (exit code 1)
|- BundleError           the bundle is missing, altered or of another format
|- EvalError             questions or earlier results cannot be used
|- ParameterError        a setting is out of its range
|- PromptError           the prompt is empty, too long or not valid text
|- SessionError          the backend cannot run the bundle, or gave unusable numbers
|- export.errors.*       ConfigError, CheckpointError
|- profiles.ProfileError
`- toolchain.errors.*    CompareError, PlanError, TargetError
"""

__all__ = [
    "BundleError",
    "EvalError",
    "ParameterError",
    "PromptError",
    "SessionError",
    "UserError",
]


class UserError(Exception):
    """A mistake that its message tells how to mend; never a bug of ours.

    Args:
        what: the thing that is wrong, named.
        got: the value found.
        allowed: what would have been accepted.
        next_step: what to do now.
    """

    def __init__(
        self,
        what: str,
        *,
        got: object = None,
        allowed: str | None = None,
        next_step: str | None = None,
    ) -> None:
        parts = [what]
        if got is not None:
            parts.append(f"got {got}")
        if allowed is not None:
            parts.append(f"allowed: {allowed}")
        if next_step is not None:
            parts.append(next_step)
        super().__init__("; ".join(" ".join(part.split()) for part in parts))


class BundleError(UserError):
    """The bundle is missing, altered or of another format."""


class EvalError(UserError):
    """Questions or earlier results cannot be used."""


class ParameterError(UserError):
    """A setting is out of its range."""


class PromptError(UserError):
    """The prompt is empty, too long for the cache or not valid text."""


class SessionError(UserError):
    """The backend cannot run this bundle, or gave unusable numbers."""
