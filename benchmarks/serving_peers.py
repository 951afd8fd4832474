"""Our server beside llama.cpp's: time to the first token and tokens/s at 1, 4 and 8 clients.

Both serve a model of the shape of Chinese-Alpaca-2-7B with fewer layers and random weights of 4
bits, with as many threads as this machine lets compute, and are asked by the client of
`toolchain bench-serve`: closed loop, random prompts as token ids, answers of a fixed length. They
run in turn, round by round, and stand still while the other one is asked. A ratio above 1 says that
ours is ahead; each is of one round, and the table has the median of the rounds and their range.

The first run builds llama.cpp's server, unless --llama-server names one that has llama-quantize
beside it, and makes both models: 9 GB of disk with 8 layers.

Usage: serving_peers.py [--layers 8] [--rounds 5] [--clients 1 4 8] [--case 256,128]
                        [--num-requests 16] [--llama-server PATH] [--json FILE]
                        [--directory build/serving]
"""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from datetime import date
from pathlib import Path
from statistics import median

from llama_server import build_server, make_gguf
from request_models import make_bundle
from server_process import ServerProcess, free_port

from runtime.progress import SILENT
from runtime.threads import usable_threads
from toolchain.bench.grid import case_pairs
from toolchain.host.machine import cpu_name
from toolchain.load.pattern import Load, loads
from toolchain.load.result import LoadResult, LoadRow
from toolchain.load.run import Wanted, run_loads
from toolchain.remote.address import Address
from toolchain.remote.server import open_server

CACHE_LEN = 1536  # of each slot, in both
SLOTS = 8
SERVERS = ("ours", "llama.cpp")
FIGURES = ("TTFT p50 ms", "TTFT p99 ms", "tokens/s")
LESS_IS_BETTER = ("TTFT p50 ms", "TTFT p99 ms")


def figures(row: LoadRow) -> dict[str, float]:
    """What is compared of a load.

    Exits where an answer failed or was cut short: then the two did not do the same.
    """
    if row.failures or row.short_answers or row.ttft_ms is None:
        sys.exit(f"{row.clients} clients: {row.failures}, {row.short_answers} short answers")
    ttft = row.ttft_ms
    return dict(zip(FIGURES, (ttft.p50, ttft.p99, row.output_tokens_per_s), strict=True))


def start(arguments: argparse.Namespace, stack: ExitStack) -> dict[str, ServerProcess]:
    """Both servers, loaded; the stack ends them."""
    directory = arguments.directory.resolve()
    server = arguments.llama_server or build_server(directory / "llama.cpp")
    gguf = make_gguf(directory, arguments.layers, server.with_name("llama-quantize"))
    bundle = make_bundle(arguments.bundles.resolve(), arguments.layers, CACHE_LEN)
    threads, ports = str(usable_threads()), (free_port(), free_port())
    ours = ["runtime", "serve", str(bundle.path), "--port", str(ports[0]), "--threads", threads]
    theirs = [
        *(str(server), "-m", str(gguf), "--port", str(ports[1]), "--threads", threads),
        *("--parallel", str(SLOTS), "--ctx-size", str(SLOTS * CACHE_LEN), "--cont-batching"),
        "--no-ui",
    ]
    processes = {}
    for name, command, port in zip(SERVERS, (ours, theirs), ports, strict=True):
        log = directory / f"{name}.log"
        processes[name] = stack.enter_context(closing(ServerProcess(command, port, log)))
    return processes


def ask(process: ServerProcess, wanted: Sequence[Load], seed: int) -> LoadResult:
    """All loads on one server, while it runs."""
    with process.awake() as url:
        address = Address(root=url, timeout=600)
        asked = Wanted(loads=wanted, model=None, chat=False, seed=seed, limits={})
        with open_server(address, time.sleep) as server:
            return run_loads(asked, server, address, None, SILENT)


def ratio(figure: str, ours: float, theirs: float) -> float:
    """Above 1 where ours is ahead."""
    return theirs / ours if figure in LESS_IS_BETTER else ours / theirs


def table(rounds: Sequence[dict[str, LoadResult]]) -> list[str]:
    """Markdown: medians of the rounds, and the median and range of their ratios."""
    lines = [
        "| clients | figure | ours | llama.cpp | ratio | of rounds |",
        "|--:|---|--:|--:|--:|---|",
    ]
    for i, first in enumerate(rounds[0]["ours"].rows):
        read = [{name: figures(each[name].rows[i]) for name in SERVERS} for each in rounds]
        for figure in FIGURES:
            ours, theirs = ([each[name][figure] for each in read] for name in SERVERS)
            ratios = [ratio(figure, a, b) for a, b in zip(ours, theirs, strict=True)]
            lines.append(
                f"| {first.clients} | {figure} | {median(ours):.1f} | {median(theirs):.1f} "
                f"| {median(ratios):.2f} | {min(ratios):.2f} to {max(ratios):.2f} |"
            )
    return lines


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--case", default="256,128")
    parser.add_argument("--num-requests", type=int, default=16)
    parser.add_argument("--llama-server", type=Path)
    parser.add_argument("--directory", type=Path, default=Path("build/serving"))
    parser.add_argument("--bundles", type=Path, default=Path("build/many"), help="kept bundles")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def main() -> None:
    """Makes what is missing, measures and prints the table."""
    arguments = parse_arguments()
    arguments.directory.mkdir(parents=True, exist_ok=True)
    wanted = loads(
        case_pairs([arguments.case]), arguments.clients, [], arguments.num_requests, None
    )
    rounds = []
    with ExitStack() as stack:
        processes = start(arguments, stack)
        for number in range(arguments.rounds):
            print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr)
            order = SERVERS if number % 2 == 0 else SERVERS[::-1]
            rounds.append({name: ask(processes[name], wanted, number) for name in order})
    title = (
        f"{arguments.layers} layers, {arguments.case} tokens in and out, {usable_threads()} threads"
    )
    print(f"{cpu_name()}, {title}, {date.today().isoformat()}\n")
    print("\n".join(table(rounds)))
    if arguments.json is not None:
        document = [{name: r.model_dump() for name, r in each.items()} for each in rounds]
        arguments.json.write_text(json.dumps(document, indent=1))


if __name__ == "__main__":
    main()
