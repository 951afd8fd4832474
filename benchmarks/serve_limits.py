"""What `runtime serve` holds against: overload, half-open sockets, clients that leave, SIGTERM.

python benchmarks/serve_limits.py BUNDLE [overload|half_open|disconnects|sigterm]...
starts the server as a process of its own and prints one JSON object per test.
"""

import asyncio
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread
from typing import Any

SECONDS = float(os.environ.get("SECONDS", "60"))
TOKENS = int(os.environ.get("TOKENS", "200"))
ROOM = 8  # answers that the server takes at once
RUN = "from runtime.cli import main; main()"


@dataclass(slots=True)
class Server:
    """A server that runs."""

    process: subprocess.Popen[str]
    host: str
    port: int

    def memory_mb(self) -> float:
        """Anonymous memory: pages of weights come into the rest as they are first read."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"RssAnon:\s+(\d+)", status)
        assert found is not None
        return int(found[1]) / 1024

    def open_files(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


@contextmanager
def server(bundle: str, **settings: object) -> Iterator[Server]:
    environment = {f"RUNTIME_SERVE_{key.upper()}": str(value) for key, value in settings.items()}
    with subprocess.Popen(
        [sys.executable, "-c", RUN, "serve", bundle, "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            record = json.loads(line)
            if record["message"] == "listening":
                host, port = record["host"], record["port"]
            if record["message"] == "ready":
                break
        # The log must be read, or the server would wait for its reader.
        Thread(target=process.stderr.read, daemon=True).start()
        try:
            yield Server(process, host, port)
        finally:
            process.kill()


@dataclass(slots=True)
class Reply:
    """An answer: its status, head and body, and the seconds that it took."""

    status: int
    head: bytes
    body: bytes
    seconds: float


async def ask(to: Server, path: str, body: dict[str, Any] | None = None) -> Reply:
    """One request on a connection of its own; status 0 where the connection broke."""
    began = time.perf_counter()
    try:
        reader, writer = await asyncio.open_connection(to.host, to.port)
        writer.write(request(path, body))
        data = await reader.read()
        writer.close()
    except OSError:
        return Reply(0, b"", b"", time.perf_counter() - began)
    head, _, rest = data.partition(b"\r\n\r\n")
    status = int(head.split()[1]) if head else 0
    return Reply(status, head.lower(), rest, time.perf_counter() - began)


def request(path: str, body: dict[str, Any] | None) -> bytes:
    data = b"" if body is None else json.dumps(body).encode()
    head = f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\nHost: localhost\r\n"
    head += "Connection: close\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data


def completion(**extra: object) -> dict[str, Any]:
    ids = [1, *(random.randrange(5, 99) for _ in range(8))]
    return {"prompt": ids, "max_tokens": TOKENS, "ignore_eos": True, **extra}


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else 0.0


@dataclass(slots=True)
class Load:
    """What came back, and how late this program itself was: it shares the cores of the server."""

    replies: list[Reply] = field(default_factory=list)
    health: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)


async def capacity(to: Server, seconds: float) -> float:
    """Answers a second, with as many clients as there is room."""
    until, done = time.perf_counter() + seconds, 0

    async def client() -> None:
        nonlocal done
        while time.perf_counter() < until:
            reply = await ask(to, "/v1/completions", completion())
            done += reply.status == 200 and time.perf_counter() < until  # as for what is served

    await asyncio.gather(*(client() for _ in range(ROOM)))
    return done / seconds


async def overload(bundle: str) -> dict[str, Any]:
    """Five times what it can do, at random moments, whatever comes back."""
    with server(bundle, max_requests=ROOM) as to:
        await capacity(to, 3)
        able = await capacity(to, max(5.0, SECONDS / 4))
        memory = to.memory_mb()
        load, tasks = Load(), set[asyncio.Task[None]]()

        async def one() -> None:
            load.replies.append(await ask(to, "/v1/completions", completion()))

        async def health() -> None:
            while True:
                load.health.append((await ask(to, "/health/live")).seconds)
                due = time.perf_counter() + 0.05
                await asyncio.sleep(0.05)
                load.late.append(time.perf_counter() - due)

        watch = asyncio.create_task(health())
        until = time.perf_counter() + SECONDS
        while time.perf_counter() < until:
            tasks.add(asyncio.create_task(one()))
            await asyncio.sleep(random.expovariate(5 * able))
        began_to_end = time.perf_counter()
        served = sum(reply.status == 200 for reply in load.replies)
        await asyncio.gather(*tasks)
        watch.cancel()
        refused = [reply for reply in load.replies if reply.status == 503]
        return {
            "capacity_per_s": able,
            "offered_per_s": len(load.replies) / SECONDS,
            "goodput_share": served / (SECONDS + began_to_end - until) / able,
            "refused": len(refused),
            "refused_p50_ms": 1e3 * percentile([reply.seconds for reply in refused], 0.5),
            "refused_p99_ms": 1e3 * percentile([reply.seconds for reply in refused], 0.99),
            "with_retry_after": sum(b"retry-after" in reply.head for reply in refused),
            "other_than_200_and_503": sum(r.status not in (200, 503) for r in load.replies),
            "health_p99_ms": 1e3 * percentile(load.health, 0.99),
            "client_late_p99_ms": 1e3 * percentile(load.late, 0.99),
            "memory_before_mb": memory,
            "memory_after_mb": to.memory_mb(),
        }


async def half_open(bundle: str) -> dict[str, Any]:
    """A thousand sockets that never finish a request, some of them trickling."""
    with server(bundle, receive_timeout=5) as to:
        normal = [await ask(to, "/v1/completions", completion()) for _ in range(10)]
        open_files, closed = to.open_files(), list[float]()

        async def slow(i: int) -> None:
            reader, writer = await asyncio.open_connection(to.host, to.port)
            began = time.perf_counter()
            writer.write(request("/v1/completions", completion())[: i % 200])
            ended = asyncio.create_task(reader.read())
            while i % 2 and not ended.done():
                with suppress(OSError):
                    writer.write(b"a" if i % 200 < 30 else b"")
                    await writer.drain()
                await asyncio.wait((ended,), timeout=0.5)
            with suppress(OSError):
                await ended
            closed.append(time.perf_counter() - began)
            writer.close()

        slow_ones = [asyncio.create_task(slow(i)) for i in range(1000)]
        beside = [await ask(to, "/v1/completions", completion()) for _ in range(10)]
        await asyncio.gather(*slow_ones)
        await asyncio.sleep(1)
        return {
            "closed": len(closed),
            "closed_after_s_max": max(closed),
            "good_p50_ms_before": 1e3 * statistics.median(reply.seconds for reply in normal),
            "good_p50_ms_beside": 1e3 * statistics.median(reply.seconds for reply in beside),
            "good_failed": sum(reply.status != 200 for reply in beside),
            "open_files_before": open_files,
            "open_files_after": to.open_files(),
        }


async def disconnects(bundle: str) -> dict[str, Any]:
    """Five hundred clients that leave at random moments."""
    with server(bundle, max_requests=ROOM) as to:

        async def leave() -> None:
            _, writer = await asyncio.open_connection(to.host, to.port)
            writer.write(request("/v1/completions", completion(stream=random.random() < 0.5)))
            await asyncio.sleep(random.expovariate(20))
            writer.transport.abort()

        for _ in range(125):
            await asyncio.gather(*(leave() for _ in range(4)))
        last = await ask(to, "/v1/completions", completion())
        metrics = (await ask(to, "/metrics")).body.decode()
        wanted = ("runtime_queue_depth", "runtime_slots_free", "runtime_num_requests_running")
        gauges = {n: float(re.findall(rf"^{n} (\S+)", metrics, re.MULTILINE)[0]) for n in wanted}
        cancelled = re.findall(r"^runtime_requests_cancelled_total\S+ (\S+)", metrics, re.MULTILINE)
        return {"last_status": last.status, "cancelled": sum(map(float, cancelled)), **gauges}


async def sigterm(bundle: str) -> dict[str, Any]:
    """Twenty times: what was taken must be answered to its end."""
    whole, codes = 0, []
    for _ in range(20):
        with server(bundle, max_requests=ROOM) as to:
            answers = [
                asyncio.create_task(ask(to, "/v1/completions", completion(stream=True)))
                for _ in range(ROOM)
            ]
            admitted = 0.0
            while admitted < ROOM:
                metrics = (await ask(to, "/metrics")).body.decode()
                admitted = float(
                    re.findall(r"^runtime_queue_depth (\S+)", metrics, re.MULTILINE)[0]
                )
            to.process.send_signal(signal.SIGTERM)
            replies = await asyncio.gather(*answers)
            whole += sum(b"data: [DONE]" in reply.body for reply in replies)
            codes.append(await asyncio.to_thread(to.process.wait))
    return {"asked": 20 * ROOM, "whole": whole, "exit_codes": sorted(set(codes))}


TESTS: dict[str, Callable[[str], Coroutine[Any, Any, dict[str, Any]]]] = {
    "overload": overload,
    "half_open": half_open,
    "disconnects": disconnects,
    "sigterm": sigterm,
}

if __name__ == "__main__":
    for name in sys.argv[2:] or TESTS:
        result = asyncio.run(TESTS[name](sys.argv[1]))
        rounded = {k: round(v, 3) if isinstance(v, float) else v for k, v in result.items()}
        print(json.dumps({"test": name, **rounded}), flush=True)
