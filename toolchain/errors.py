"""What can be wrong with a request to the compiler, or with results to compare."""

from runtime.errors import UserError

__all__ = ["CompareError", "PlanError", "TargetError"]


class TargetError(UserError):
    """The target does not exist or cannot take what it was given."""

    code = "invalid_target"


class PlanError(UserError):
    """The model does not fit the device."""

    code = "does_not_fit"


class CompareError(UserError):
    """A result cannot be read, or two have nothing in common."""

    code = "not_comparable"
