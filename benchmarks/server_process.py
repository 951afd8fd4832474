"""A server in a process of its own, which stands still while another one is measured."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2

__all__ = ["ServerProcess", "free_port"]

PATIENCE = 600.0  # seconds that a model may load


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


class ServerProcess:
    """Starts a server and waits until it is ready; what it logs goes to a file."""

    def __init__(self, command: list[str], port: int, log: Path) -> None:
        self.url = f"http://127.0.0.1:{port}"
        with log.open("wb") as stream:
            self._process = subprocess.Popen(command, stdout=stream, stderr=stream)
        until = time.monotonic() + PATIENCE
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > until:
                self.close()
                sys.exit(f"{command[0]} does not answer; see {log}")
            time.sleep(0.2)
        self._process.send_signal(signal.SIGSTOP)

    def _is_ready(self) -> bool:
        try:
            return httpx2.get(f"{self.url}/health", trust_env=False).status_code == 200
        except httpx2.HTTPError:
            return False

    @contextmanager
    def awake(self) -> Iterator[str]:
        """Its URL, while it runs."""
        self._process.send_signal(signal.SIGCONT)
        yield self.url
        self._process.send_signal(signal.SIGSTOP)  # threads that wait for work may spin

    def close(self) -> None:
        """Ends the process, stopped as it is."""
        self._process.kill()
        self._process.wait()
