"""What HTTP costs: time to the first token and per token over the server, less the engine's own.

The engine runs the requests in this process, the server in its own, in turn, round by round; the
one stands still while the other works. Both run a model of the shape of Chinese-Alpaca-2-7B with
few layers and random weights, so that what HTTP costs is not lost in the noise of the model. The
client of `toolchain bench-serve` takes its share of the same cores.

Usage: serve_overhead.py [--layers 1] [--rounds 7] [--clients 1 8] [--case 64,128]
                         [--num-requests 16] [--directory build/many]
"""

import argparse
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from random import Random
from statistics import median

from request_models import make_bundle
from server_process import ServerProcess, free_port

from runtime.engine.engine import Engine
from runtime.engine.scheduler import Policy, Scheduler
from runtime.engine.sequence import Request
from runtime.engine.sequence import Sequence as Running
from runtime.progress import SILENT
from runtime.sampling.params import SamplingParams
from runtime.sessions import open_session
from runtime.sessions.base import Session
from runtime.threads import usable_threads
from runtime.timing import now
from toolchain.bench.grid import case_pairs
from toolchain.host.machine import cpu_name
from toolchain.load.pattern import Load, loads
from toolchain.load.run import Wanted, run_loads
from toolchain.remote.address import Address
from toolchain.remote.server import open_server

CACHE_LEN = 1536
VOCAB = 55_296
GOALS = {1: 1.0, 8: 2.0}  # ms per token that HTTP may cost


@dataclass(frozen=True, slots=True)
class Times:
    """Medians in ms: to the first token, and per token after it."""

    first: float
    token: float


def of_engine(session: Session, load: Load, seed: int) -> Times:
    """As many requests at once as there are clients; where one ends, the next one comes."""
    rng = Random(seed)
    params = SamplingParams(max_tokens=load.output_tokens, temperature=0, ignore_eos=True)
    scheduler = Scheduler(Engine(session), Policy())
    asked, running, first, token = dict[int, float](), list[Running](), list[float](), list[float]()
    while len(first) < load.num_requests:
        while len(running) < min(load.clients or 1, load.num_requests - len(first)):
            ids = [rng.randrange(3, VOCAB) for _ in range(load.input_tokens)]
            running.append(scheduler.add(Request(prompt_ids=ids, params=params)))
            asked[id(running[-1])] = now()
        scheduler.step()
        for sequence in [each for each in running if each.ended]:
            began, ended = sequence.tokens[0].sampled_at, sequence.tokens[-1].sampled_at
            first.append(1e3 * (began - asked[id(sequence)]))
            token.append(1e3 * (ended - began) / (load.output_tokens - 1))
            running.remove(sequence)
    return Times(median(first), median(token))


def of_server(process: ServerProcess, load: Load, seed: int) -> Times:
    """The same over HTTP."""
    wanted = Wanted(loads=[load], model=None, chat=False, seed=seed, limits={})
    with process.awake() as url:
        address = Address(root=url, timeout=600)
        with open_server(address, time.sleep) as server:
            [row] = run_loads(wanted, server, address, None, SILENT).rows
    assert row.completed == load.num_requests, row.failures
    assert row.ttft_ms is not None
    assert row.tpot_ms is not None
    return Times(row.ttft_ms.p50, row.tpot_ms.p50)


def line(load: Load, rounds: Sequence[tuple[Times, Times]]) -> str:
    """Markdown: medians of the rounds, and of their differences with the range."""
    cells = [str(load.clients)]
    for name in "first", "token":
        alone, served = (
            [getattr(times, name) for times in each] for each in zip(*rounds, strict=True)
        )
        more = [b - a for a, b in zip(alone, served, strict=True)]
        cells += [f"{median(alone):.2f}", f"{median(served):.2f}"]
        cells += [f"{median(more):.2f} ({min(more):.2f} to {max(more):.2f})"]
    assert load.clients is not None
    return f"| {' | '.join(cells)} | 5, {GOALS.get(load.clients, 2.0):g} |"


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--case", default="64,128")
    parser.add_argument("--num-requests", type=int, default=16)
    parser.add_argument("--directory", type=Path, default=Path("build/many"))
    return parser.parse_args()


def main() -> None:
    """Measures and prints the table."""
    arguments = parse_arguments()
    wanted = loads(
        case_pairs([arguments.case]), arguments.clients, [], arguments.num_requests, None
    )
    bundle = make_bundle(arguments.directory.resolve(), arguments.layers, CACHE_LEN)
    port = free_port()
    command = ["runtime", "serve", str(bundle.path), "--port", str(port)]
    log = arguments.directory / "serve_overhead.log"
    with (
        closing(ServerProcess(command, port, log)) as process,
        closing(open_session(bundle)) as session,
    ):
        measured = {
            load: [
                (of_engine(session, load, i), of_server(process, load, i))
                for i in range(arguments.rounds)
            ]
            for load in wanted
        }
    print(
        f"{cpu_name()}, {arguments.layers} layers, {arguments.case} tokens in and out, "
        f"{usable_threads()} threads, {date.today().isoformat()}\n\n"
        "| clients | first token: engine ms | server ms | more ms | token: engine ms | server ms "
        "| more ms | goals |\n|--:|--:|--:|---|--:|--:|---|---|"
    )
    for load, rounds in measured.items():
        print(line(load, rounds))


if __name__ == "__main__":
    main()
