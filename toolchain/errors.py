"""What can be wrong with a request to the compiler."""

from runtime.errors import UserError

__all__ = ["PlanError", "TargetError"]


class TargetError(UserError):
    """The target does not exist or cannot take what it was given."""


class PlanError(UserError):
    """The model does not fit the device."""
