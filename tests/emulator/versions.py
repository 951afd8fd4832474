"""The order of CANN's versions."""

__all__ = ["version"]


def version(text: str) -> list[int]:
    """8.5.0 -> 8, 5, 0; a release candidate, 8.3.RC1, counts as 8, 3, -1, 1."""
    text = text.upper().replace("RC", "-1.")
    return [int(part) for part in text.split(".") if part.lstrip("-").isdigit()]
