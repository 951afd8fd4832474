"""What replicas on a Ray cluster bring: tokens/s of several actors against those of one.

The cluster is made here: a node of this machine for each actor, through a pool of actors as
`runtime batch --ray` has it. Each request is a prompt of 8 tokens and 32 tokens of answer; as many
are on their way as the actors take.

- paced: each step of an actor's engine waits so many milliseconds besides what it computes, so that
  a machine with few cores can show what the pool costs. 1, 2 and 4 actors of one thread.
- real: the engine as it is. Two actors of one thread against one of two threads.

Rounds alternate between what is compared, and the table has the median of the rounds.

Usage: ray_replicas.py paced BUNDLE [--step-ms 50] [--rounds 3] [--seconds 8]
       ray_replicas.py real BUNDLE [--rounds 3] [--seconds 20]
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import date
from functools import partial
from importlib.metadata import version
from pathlib import Path
from random import Random
from statistics import median

from ray.cluster_utils import Cluster

from runtime.bundle.manifest import Graph
from runtime.bundle.reader import load_bundle
from runtime.cluster.devices import connected, find_devices
from runtime.cluster.pool import ActorPool
from runtime.engine.engine import Engine
from runtime.engine.loop import EngineLoop
from runtime.engine.scheduler import Policy, Scheduler
from runtime.engine.sequence import Request
from runtime.sampling.params import SamplingParams
from runtime.sessions import SessionOptions, open_session
from runtime.sessions.base import Chunk, Logits, Session
from runtime.timing import now
from toolchain.host.machine import cpu_name

PROMPT, ANSWER = 8, 32  # tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """So many actors, each with so many threads."""

    actors: int
    threads: int


SETUPS = {
    "paced": [Setup(actors=1, threads=1), Setup(actors=2, threads=1), Setup(actors=4, threads=1)],
    "real": [Setup(actors=1, threads=2), Setup(actors=2, threads=1)],
}


class Paced:
    """A session whose every call takes longer, without computing."""

    def __init__(self, session: Session, seconds: float) -> None:
        self.manifest, self.static_shapes = session.manifest, session.static_shapes
        self.hidden = session.hidden
        self._session, self._seconds = session, seconds

    def prepare(self, graph: Graph) -> None:
        """See Session."""
        self._session.prepare(graph)

    def run(self, graph: Graph, chunks: Sequence[Chunk]) -> Logits:
        """See Session."""
        time.sleep(self._seconds)
        return self._session.run(graph, chunks)

    def copy_rows(self, source: int, target: int, num_rows: int) -> None:
        """See Session."""
        self._session.copy_rows(source, target, num_rows)

    def close(self) -> None:
        """See Session."""
        self._session.close()


class Requests:
    """See Work; answers a request with the number of its tokens."""

    def __init__(self, path: Path, step_seconds: float, threads: int | None) -> None:
        session = open_session(load_bundle(path), SessionOptions(threads=threads))
        engine = Engine(Paced(session, step_seconds), reuse_prefix=False)
        policy = Policy(prefill_first=True, speculate=False)
        self._loop = EngineLoop(Scheduler(engine, policy), max_tokens=1 << 60)
        self._vocab_size = engine.vocab_size
        self.num_at_once = 2 * engine.cache.num_lanes

    async def answer(self, seed: int) -> int:
        """See Work."""
        rng = Random(seed)
        prompt_ids = [rng.randrange(3, self._vocab_size) for _ in range(PROMPT)]
        params = SamplingParams(max_tokens=ANSWER, ignore_eos=True)
        stream = self._loop.submit(Request(prompt_ids=prompt_ids, params=params))
        return await asyncio.to_thread(lambda: sum(1 for _ in stream))


@contextmanager
def pool_on_cluster(setup: Setup, path: Path, step_seconds: float) -> Iterator[ActorPool]:
    """Actors, each on a node of its own, after each has answered once."""
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    with ExitStack() as opened:
        opened.callback(cluster.shutdown)
        for _ in range(setup.actors):
            cluster.add_node(num_cpus=setup.threads)
        opened.enter_context(connected(cluster.address))
        devices = find_devices("CPU", setup.threads)
        work = partial(Requests, path, step_seconds)
        pool = opened.enter_context(ActorPool(devices, work))
        tokens_per_s(pool, 4.0)
        yield pool


def tokens_per_s(pool: ActorPool, seconds: float) -> float:
    """The rate of requests that begin and end while all places are taken."""
    started, tokens, seed = now(), 0, 0
    waiting = [pool.submit(seed) for seed in range(pool.num_at_once)]
    while now() - started < seconds:
        tokens += waiting.pop(0).result()
        seed += 1
        waiting.append(pool.submit(1000 + seed))
    taken = now() - started
    for each in waiting:
        each.result()
    return tokens / taken


def main() -> None:
    """Measures, and prints a table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=SETUPS)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--step-ms", type=float, default=50.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0)
    given = parser.parse_args()
    step_seconds = given.step_ms / 1e3 if given.what == "paced" else 0.0
    rates: dict[Setup, list[float]] = {setup: [] for setup in SETUPS[given.what]}
    for _ in range(given.rounds):
        for setup, found in rates.items():
            with pool_on_cluster(setup, given.bundle.absolute(), step_seconds) as pool:
                found.append(tokens_per_s(pool, given.seconds))
                print(f"{setup}: {found[-1]:.1f} tokens/s", file=sys.stderr)
    first = median(rates[SETUPS[given.what][0]])
    print(f"{given.what}, {date.today()}, {cpu_name()}, Ray {version('ray')}\n")
    print("| actors x threads | tokens/s | against the first |\n|---|--:|--:|")
    for setup, found in rates.items():
        rate = median(found)
        print(f"| {setup.actors} x {setup.threads} | {rate:.1f} | {rate / first:.2f} |")


if __name__ == "__main__":
    main()
