"""What an encoding can write."""

__all__ = ["can_write_chinese"]


def can_write_chinese(encoding: str) -> bool:
    """Whether the encoding has Chinese characters."""
    try:
        "\u4e2d".encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True
