"""An engine in a process of its own, which stands still while another one is measured."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

__all__ = ["EngineProcess"]


class EngineProcess:
    """Asks the loop of engines/loop.py; stopped but while it loads or answers."""

    def __init__(self, command: list[str], log: Path) -> None:
        """Starts it and waits until the model is loaded; what it logs goes to the file."""
        self._log = log
        with log.open("wb") as stream:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stream, text=True
            )
        self.facts = self._answer()
        self._process.send_signal(signal.SIGSTOP)

    def ask(self, *commands: str) -> dict[str, Any]:
        """Sends commands one after the other and returns the answer to the last."""
        self._process.send_signal(signal.SIGCONT)
        for command in commands:
            print(command, file=self._process.stdin, flush=True)
            answer = self._answer()
        self._process.send_signal(signal.SIGSTOP)  # threads that wait for work may spin
        return answer

    def close(self) -> None:
        """Ends the process, stopped as it is."""
        self._process.kill()
        self._process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            sys.exit(f"an engine ended with {self._process.wait()}; see {self._log}")
        answer: dict[str, Any] = json.loads(line)
        return answer
