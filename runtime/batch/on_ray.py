"""A batch on the devices of a Ray cluster: each has a model of its own, and answers lines."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from runtime.batch.answerer import OnModel, Opening, Outcome, open_for_batch
from runtime.batch.request_line import BatchRequest
from runtime.bundle.reader import Bundle
from runtime.bundle.same_bundle import load_same_bundle
from runtime.cluster.pool import ActorPool, open_pool
from runtime.progress import SILENT, Progress
from runtime.sessions import SESSIONS

__all__ = ["OnRay", "open_on_ray"]


class OnRay:
    """See Answerer; whichever device has room takes the next request."""

    def __init__(self, pool: ActorPool) -> None:
        self._pool = pool

    @property
    def num_at_once(self) -> int:
        """See Answerer."""
        return self._pool.num_at_once

    async def answer(self, request: BatchRequest) -> Outcome:
        """See Answerer."""
        outcome: Outcome = await asyncio.wrap_future(self._pool.submit(request))
        return outcome


@contextmanager
def open_on_ray(
    address: str, bundle: Bundle, opening: Opening, progress: Progress
) -> Iterator[OnRay]:
    """Models on all devices of a cluster; requests may come when the first is open.

    Args:
        address: of the cluster.
        bundle: whose copies lie on each node, at the same path; here only its manifest is read.
        opening: its devices do not count.
        progress: told the steps.

    Raises:
        BundleError: a copy is missing, or another bundle.
        SessionError: the backend cannot run it.
        UserError: the cluster cannot be reached, or has no device for the bundle.
    """
    resource = SESSIONS[bundle.manifest.backend].ray_resource
    work = partial(_BatchWork, bundle.path.absolute(), bundle.digest, opening)
    with open_pool(address, resource, opening.threads, work, progress.step) as pool:
        yield OnRay(pool)


class _BatchWork:
    """See Work; answers requests of a batch."""

    def __init__(self, path: Path, digest: str, opening: Opening, threads: int | None) -> None:
        bundle = load_same_bundle(path, digest)
        self._on_model = OnModel(open_for_batch(bundle, replace(opening, threads=threads), SILENT))

    @property
    def num_at_once(self) -> int:
        """See Work."""
        return self._on_model.num_at_once

    async def answer(self, item: BatchRequest) -> Outcome:
        """See Work."""
        return await self._on_model.answer(item)
