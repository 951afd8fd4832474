"""What can be wrong with a request to the compiler, with results, packs, or a server."""

from runtime.errors import UserError

__all__ = ["CompareError", "PackError", "PlanError", "RemoteError", "TargetError"]


class TargetError(UserError):
    """The target does not exist or cannot take what it was given."""

    code = "invalid_target"


class PlanError(UserError):
    """The model does not fit the device."""

    code = "does_not_fit"


class CompareError(UserError):
    """A result cannot be read, or two have nothing in common."""

    code = "not_comparable"


class PackError(UserError):
    """A pack for a box cannot be made of what is there."""

    code = "pack_failed"


class RemoteError(UserError):
    """A server that was asked did not answer, or not as OpenAI's API has it."""

    code = "server_failed"
