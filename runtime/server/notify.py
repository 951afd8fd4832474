"""Tells systemd how the server goes, where a unit of Type=notify has started it.

The watchdog is told that all is well as long as the engine is idle or has moved: a call of the
device that never comes back, or an event loop that stands still, ends in a new start.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from runtime.server.service import Service, State

__all__ = ["Pulse", "notify", "telling_systemd"]

INTERVAL = 1.0  # seconds
STATES: dict[State, tuple[str, ...]] = {
    "ready": ("READY=1", "STATUS=ready"),
    "draining": ("STOPPING=1", "STATUS=draining"),
    "failed": ("STATUS=failed",),
}


def notify(*states: str) -> None:
    """sd_notify: nothing without systemd."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
        to.connect(address.replace("@", "\0", 1) if address.startswith("@") else address)
        to.sendall("\n".join(states).encode())


@asynccontextmanager
async def telling_systemd(service: Service) -> AsyncIterator[None]:
    """Tells it all the while."""
    task = asyncio.create_task(_tell(service))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        notify(*STATES["draining"])  # which may have been over before it was looked at


async def _tell(service: Service) -> None:
    told, pulse = None, Pulse(service)
    while True:
        state, progress = service.state, service.progress
        if state == "loading":
            part = "" if progress.fraction is None else f" {progress.fraction:.0%}"
            notify(f"STATUS={progress.current}{part}")
        elif state != told:
            notify(*STATES[state])
            told = state
        if pulse.beats():
            notify("WATCHDOG=1")
        await asyncio.sleep(INTERVAL)


class Pulse:
    """Whether a server's engines still move."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._seen: list[tuple[int, ...]] = []

    def beats(self) -> bool:
        """Whether each is idle, or has done something since the last time."""
        model = self._service.loaded
        if model is None or self._service.state == "failed":
            return False
        engines = model.engines.each
        seen, before = [each.pulse for each in engines], self._seen or [()] * len(engines)
        self._seen = seen
        return all(
            now != then or each.loop.num_open == 0
            for each, now, then in zip(engines, seen, before, strict=True)
        )
