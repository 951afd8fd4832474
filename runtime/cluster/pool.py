"""A pool of actors, one for each device of a cluster: each does the same work.

Whichever has room is given the next item. Where an actor is lost, another takes its place, and its
items are asked again. Knows nothing of what the work is.
"""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Thread
from typing import Any, Protocol, Self

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util import get_node_ip_address
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from runtime.cluster.devices import Device, connected, find_devices
from runtime.errors import DeviceLostError, SessionError, UserError

__all__ = ["ActorPool", "MakeWork", "Work", "open_pool"]

MOST_LOSSES = 5  # actors that one item, or one device, may be with when they are lost


class Work(Protocol):
    """What an actor does; it is made where it is done."""

    @property
    def num_at_once(self) -> int:
        """Items that it should be given before it has answered the first."""

    async def answer(self, item: Any) -> Any:
        """What an item comes to.

        Raises:
            SessionError: the device is of no use any more; the item is asked again elsewhere.
            Exception: the item cannot be answered anywhere.
        """


MakeWork = Callable[[int | None], Work]  # for so many threads; None where none were asked for


@contextmanager
def open_pool(
    address: str,
    resource: str,
    threads: int | None,
    make_work: MakeWork,
    say: Callable[[str], None],
) -> Iterator["ActorPool"]:
    """A pool on all devices of a cluster; items may come when the first has its work.

    Args:
        address: of the cluster; see connected.
        resource: of a device; see find_devices.
        threads: for each device.
        make_work: see ActorPool.
        say: told the steps.

    Raises:
        UserError: the cluster cannot be reached, or has no such device; or see ActorPool.
    """
    say(f"connecting to the cluster at {address}")
    with connected(address):
        devices = find_devices(resource, threads)
        say(f"opening the model on {len(devices)} devices of the cluster")
        with ActorPool(devices, make_work) as pool:
            yield pool


class ActorPool:
    """Gives items to actors. Use as a context manager, while connected.

    Args:
        devices: an actor for each.
        make_work: called in each; it goes there by the name of its module.

    Attributes:
        num_at_once: items that it should be given before it has answered the first.

    Raises:
        UserError: the work cannot be made on one of the first devices that are free.
    """

    def __init__(self, devices: list[Device], make_work: MakeWork) -> None:
        self._devices, self._make_work = devices, make_work
        self._first: Future[int] = Future()  # what the first actor takes at once
        self._opening: set[asyncio.Task[None]] = set()
        self._places: asyncio.Queue[_Member | Exception]  # an actor, for each item that it takes
        self._loop: asyncio.AbstractEventLoop
        self._end: asyncio.Event
        self._thread = Thread(target=lambda: asyncio.run(self._live()), name="actors", daemon=True)
        self.num_at_once = 0

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self.num_at_once = self._first.result() * len(self._devices)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    def submit(self, item: object) -> Future[Any]:
        """The answer of an item, in the future.

        Raises (there):
            DeviceLostError: actors were lost, one after the other.
            UserError: the work cannot be made on a device.
            Exception: of the work.
        """
        return asyncio.run_coroutine_threadsafe(self._ask(item), self._loop)

    async def _live(self) -> None:
        """The thread: whatever it has begun is cancelled at its end."""
        self._loop, self._end = asyncio.get_running_loop(), asyncio.Event()
        self._places = asyncio.Queue()
        for device in self._devices:
            self._open(device)
        await self._end.wait()

    async def _ask(self, item: object) -> Any:
        lost: Exception | None = None
        for _ in range(MOST_LOSSES):
            member = await self._free_member()
            try:
                answer = await member.actor.answer.remote(item)
            except RayTaskError as error:
                lost = error.cause
                if not isinstance(lost, SessionError):
                    self._places.put_nowait(member)
                    raise lost from error
            except RayError as error:
                lost = error
            else:
                self._places.put_nowait(member)
                return answer
            self._replace(member)
        raise DeviceLostError(
            f"{MOST_LOSSES} devices were lost, one after the other, while they had the same item",
            got=_last_line(lost),
            next_step="look at the nodes; the same command goes on from here",
        ) from lost

    async def _free_member(self) -> "_Member":
        while True:
            place = await self._places.get()
            if isinstance(place, Exception):
                self._places.put_nowait(place)  # for whoever asks next
                raise place
            if not place.lost:
                return place

    def _replace(self, member: "_Member") -> None:
        if not member.lost:
            member.lost = True
            ray.kill(member.actor)
            self._open(member.device)

    def _open(self, device: Device) -> None:
        task = asyncio.create_task(self._add(device))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _add(self, device: Device) -> None:
        try:
            member, num_at_once = await _opened(device, self._make_work)
        except Exception as error:
            self._places.put_nowait(error)
            if not self._first.done():
                self._first.set_exception(error)
            return
        for _ in range(num_at_once):
            self._places.put_nowait(member)
        if not self._first.done():
            self._first.set_result(num_at_once)


@dataclass(slots=True)
class _Member:
    device: Device
    actor: Any
    lost: bool = False


async def _opened(device: Device, make_work: MakeWork) -> tuple[_Member, int]:
    """An actor that is ready, on its node while that is there; and what it takes at once."""
    on_node = NodeAffinitySchedulingStrategy(device.node, soft=True)
    options = {**device.request, "scheduling_strategy": on_node}
    lost: Exception | None = None
    for _ in range(MOST_LOSSES):
        actor = ray.remote(_Actor).options(**options).remote()
        try:
            return _Member(device, actor), await actor.open.remote(make_work, device.threads)
        except RayTaskError as error:
            raise error.cause from error
        except RayError as error:
            lost = error
    raise DeviceLostError(
        f"no actor can start on node {device.address}",
        got=_last_line(lost),
        next_step="install the same alpaca2-toolchain[ray] on each node, and start Ray from there",
    ) from lost


class _Actor:
    """The process on a node."""

    def __init__(self) -> None:
        self._work: Work

    async def open(self, make_work: MakeWork, threads: int | None) -> int:
        """Makes the work; says how many items it should be given at once."""
        try:
            self._work = make_work(threads)
        except UserError as error:
            error.what = f"on node {get_node_ip_address()}: {error.what}"
            raise
        return self._work.num_at_once

    async def answer(self, item: Any) -> Any:
        """See Work."""
        return await self._work.answer(item)


def _last_line(error: Exception | None) -> str:
    return (str(error).strip().splitlines() or [""])[-1]
