"""What llguidance says is wrong, in one line."""

__all__ = ["reason"]

SAID_BETTER = {"NoExtensionBias": "it allows no text here"}


def reason(message: str) -> str:
    """The line of a message that says why; not where, in a grammar that we have wrapped."""
    first, *more = message.splitlines() or [""]
    errors = (line.removeprefix("error: ") for line in more if line.startswith("error: "))
    return next(errors, SAID_BETTER.get(first, first))[:300]
