"""The engines of a model, one for each device: who takes a request, and what they do together."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from runtime.engine.engine import Engine
from runtime.engine.loop import EngineLoop
from runtime.engine.scheduler import Scheduler
from runtime.sessions import Session

__all__ = ["DeviceEngine", "Engines"]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceEngine:
    """What answers on one device.

    scheduler: to be read only; the loop's thread drives it.
    """

    session: Session
    scheduler: Scheduler
    loop: EngineLoop

    @property
    def pulse(self) -> tuple[int, ...]:
        """Another value whenever something was done."""
        engine = self.scheduler.engine
        return (engine.computed_tokens, *(slot.length for slot in engine.cache.slots))

    def close(self) -> None:
        """Ends every answer, and gives back what the device holds."""
        self.loop.close()
        self.session.close()


class Engines:
    """The engines of one bundle; all can do the same.

    Attributes:
        each: one for each device, in their order.
    """

    def __init__(self, each: Sequence[DeviceEngine]) -> None:
        self.each = tuple(each)

    @property
    def engine(self) -> Engine:
        """The first; what it says of the model goes for all."""
        return self.each[0].scheduler.engine

    @property
    def num_open(self) -> int:
        """Requests that are waiting or running."""
        return sum(each.loop.num_open for each in self.each)

    @property
    def failure(self) -> Exception | None:
        """What has ended one of them."""
        failures = (each.loop.failure for each in self.each)
        return next((failure for failure in failures if failure is not None), None)

    def least_busy(self) -> EngineLoop:
        """The loop of the one with the fewest requests."""
        return min(self.each, key=lambda each: each.loop.num_open).loop

    def close(self) -> None:
        """Closes all, whatever becomes of one."""
        with ExitStack() as stack:
            for each in self.each:
                stack.callback(each.close)
