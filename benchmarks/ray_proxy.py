"""What a token costs Ray Serve's proxy: its CPU time for each event of a stream that it passes on.

Serve runs on a cluster of one node of this machine. Streams are read one after the other and four
at a time. CPU time and not wall time is taken, so it does not matter what else the machine does.

Usage: ray_proxy.py BUNDLE [--answers 20] [--max-tokens 300]
"""

import argparse
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from importlib.metadata import version
from pathlib import Path

import httpx2
import ray
from ray import serve
from ray.cluster_utils import Cluster

from runtime.server.ray_app import app
from toolchain.host.machine import cpu_name

TICKS = os.sysconf("SC_CLK_TCK")


def proxy_seconds() -> float:
    """CPU time of the proxy so far."""
    [process] = [
        entry
        for entry in Path("/proc").iterdir()
        if entry.name.isdecimal() and b"ProxyActor" in (entry / "cmdline").read_bytes()
    ]
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def stream(client: httpx2.Client, max_tokens: int) -> tuple[int, int]:
    """Events of one answer, and their bytes."""
    messages = [{"role": "user", "content": "What is an edge box?"}]
    body = {"messages": messages, "max_tokens": max_tokens, "ignore_eos": True, "stream": True}
    text = client.post("/v1/chat/completions", json=body).text
    events = text.split("\n\n")[:-1]
    return len(events), len(text.encode())


def main() -> None:
    """Measures, and prints a line for each number of streams at a time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--answers", type=int, default=20)
    parser.add_argument("--max-tokens", type=int, default=300)
    given = parser.parse_args()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False}
    )
    ray.init(address=cluster.address, log_to_driver=False)
    serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
    serve.run(app({"bundle": str(given.bundle), "insecure": "true"}), route_prefix="/")
    print(f"{date.today()}, {cpu_name()}, Ray {version('ray')}\n")
    print("| streams at a time | events | bytes an event | proxy's CPU, us an event |")
    print("|--:|--:|--:|--:|")
    with httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=120, trust_env=False) as client:
        stream(client, given.max_tokens)
        for at_once in (1, 4):
            before = proxy_seconds()
            with ThreadPoolExecutor(at_once) as pool:
                asked = [given.max_tokens] * given.answers
                found = list(pool.map(lambda each: stream(client, each), asked))
            events, size = map(sum, zip(*found, strict=True))
            cost = 1e6 * (proxy_seconds() - before) / events
            print(f"| {at_once} | {events} | {size / events:.0f} | {cost:.0f} |")
    serve.shutdown()
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
