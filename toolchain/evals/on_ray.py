"""A bundle on the devices of a Ray cluster as an examinee.

Whichever device is free takes the next question. The answers are those of one device, so the log is
the same: a run on one machine goes on where a run on several ended, and the other way round.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Lock

from pydantic import JsonValue

from runtime.bundle.reader import Bundle
from runtime.bundle.same_bundle import load_same_bundle
from runtime.cluster.pool import ActorPool, open_pool
from runtime.engine.engine import Engine
from runtime.engine.scheduler import Scheduler
from runtime.progress import Progress
from runtime.sessions import SESSIONS, SessionOptions, open_session
from runtime.text.from_bundle import open_tokenizer
from runtime.text.tokenizer import Tokenizer
from toolchain.evals.answers import Answer
from toolchain.evals.examinee import OnBundle, describe_bundle
from toolchain.evals.prompts import Prompt
from toolchain.evals.styles import Style

__all__ = ["OnRay", "open_on_ray"]

Question = tuple[Style, Prompt]
Answered = tuple[Answer, dict[str, int]]  # with the effort that it took


class OnRay:
    """See Examinee.

    Args:
        bundle: whose files were checked.
        pool: of actors that have it.
    """

    def __init__(self, bundle: Bundle, pool: ActorPool) -> None:
        self._pool, self._bundle = pool, bundle
        self._effort: Counter[str] = Counter()
        self._lock = Lock()
        self.tokenizer: Tokenizer = open_tokenizer(bundle)
        self.described = describe_bundle(bundle)

    @property
    def context_len(self) -> int:
        """See Examinee."""
        return self._bundle.manifest.cache_len

    @property
    def identity(self) -> dict[str, JsonValue]:
        """See Examinee."""
        return {"manifest_sha256": self.described["manifest_sha256"]}

    @property
    def concurrency(self) -> int:
        """See Examinee."""
        return self._pool.num_at_once

    def ask(self, style: Style, prompt: Prompt) -> Answer:
        """See Examinee."""
        answered: Answered = self._pool.submit((style, prompt)).result()
        answer, effort = answered
        with self._lock:
            self._effort.update(effort)
        return answer

    def effort(self) -> dict[str, int]:
        """See Examinee."""
        return dict(self._effort)


@contextmanager
def open_on_ray(
    address: str, bundle: Bundle, progress: Progress, *, reuse_prefix: bool
) -> Iterator[OnRay]:
    """A bundle on all devices of a cluster; questions may come when the first is open.

    Args:
        address: of the cluster.
        bundle: whose files were checked here, and whose copies lie on each node, at the same path.
        progress: told the steps.
        reuse_prefix: see Engine.

    Raises:
        BundleError: a copy is missing, or another bundle.
        SessionError: the backend cannot run it.
        UserError: the cluster cannot be reached, or has no device for the bundle.
    """
    resource = SESSIONS[bundle.manifest.backend].ray_resource
    work = partial(_ExamWork, bundle.path.absolute(), bundle.digest, reuse_prefix)
    with open_pool(address, resource, None, work, progress.step) as pool:
        yield OnRay(bundle, pool)


class _ExamWork:
    """See Work; answers questions, one after the other."""

    num_at_once = 1

    def __init__(self, path: Path, digest: str, reuse_prefix: bool, threads: int | None) -> None:
        bundle = load_same_bundle(path, digest)
        session = open_session(bundle, SessionOptions(threads=threads))
        self._examinee = OnBundle(
            scheduler=Scheduler(Engine(session, reuse_prefix=reuse_prefix)),
            tokenizer=open_tokenizer(bundle),
            described=describe_bundle(bundle),
        )

    async def answer(self, item: Question) -> Answered:
        """See Work."""
        before = Counter(self._examinee.effort())
        answer = self._examinee.ask(*item)
        return answer, {
            name: count - before[name] for name, count in self._examinee.effort().items()
        }
