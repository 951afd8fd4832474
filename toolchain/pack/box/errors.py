"""The one error of an installation: what, got, allowed and next step, as everywhere."""

__all__ = ["BoxError"]


class BoxError(Exception):
    """The pack is not installed; its message is one line that says what to do."""

    def __init__(
        self,
        what: str,
        *,
        got: object = None,
        allowed: object = None,
        next_step: str = "copy the pack again, or make it again with `toolchain pack`",
    ) -> None:
        parts = [what]
        parts += [] if got is None else [f"got {got}"]
        parts += [] if allowed is None else [f"allowed: {allowed}"]
        super().__init__("; ".join([*parts, next_step]))
