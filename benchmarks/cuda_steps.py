"""How `cuda.py` runs commands: one environment, one clock, and what they leave. No package."""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["SETTINGS", "Settings", "Steps"]

MAIN = "from toolchain.cli import main; main()"
ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What is measured on a device.

    chip: the profile whose facts about the chip are taken; none for a CPU.
    shape: of the model, over that of the 7B.
    weights: precisions, the most important first; the second and later are beside the first.
    batch_sizes: of decode graphs.
    prompt: tokens of the prompt whose first token is timed.
    cache_len: rows.
    """

    device: str
    target: str
    chip: str
    shape: dict[str, int]
    weights: tuple[str, ...]
    batch_sizes: tuple[int, ...]
    prompt: int
    cache_len: int
    repeats: int

    def __str__(self) -> str:
        layers = self.shape.get("num_hidden_layers", 32)
        return f"{self.target}, {layers} layers, {self.cache_len} rows"


TINY = {
    "vocab_size": 640,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 128,
}
SETTINGS = {
    "cuda": Settings(
        device="cuda",
        target="torch-cuda",
        chip="h100",
        shape={},
        weights=("fp16", "int4", "int8", "bf16"),
        batch_sizes=(1, 4, 8, 32),
        prompt=512,
        cache_len=1024,
        repeats=3,
    ),
    "cpu": Settings(
        device="cpu",
        target="torch-cpu",
        chip="",
        shape=TINY,
        weights=("fp32",),
        batch_sizes=(1,),
        prompt=32,
        cache_len=64,
        repeats=1,
    ),
}


class Steps:
    """Commands of one run. `card` is what it runs on, once that is known."""

    def __init__(self, settings: Settings, work: Path, seconds: float) -> None:
        self.settings, self.work = settings, work
        self.card = "unknown card"
        self.python = sys.executable
        self.variables: dict[str, str] = {}  # of every command
        self.found: dict[str, Any] = {}  # what one part leaves for the next
        self._end = time.monotonic() + seconds
        self._running: dict[str, subprocess.Popen[str]] = {}

    def tell(self, text: str) -> None:
        """Says on stderr what is being done, and how much time is left."""
        sys.stderr.write(f"[{self.left:.0f} s left] {text}\n")

    @property
    def left(self) -> float:
        """Seconds, at least one."""
        return max(1.0, self._end - time.monotonic())

    def run(self, *command: object) -> str:
        """A command to its end, or to the end of the time; its stdout.

        Raises:
            RuntimeError: it fails; the last line that it said.
            subprocess.TimeoutExpired: the time is up.
        """
        words = [str(word) for word in command]
        done = subprocess.run(
            words,
            cwd=self.work,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=self.left,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(words[:4])}: {_last_line(done.stderr or done.stdout)}")
        return done.stdout

    def toolchain(self, *arguments: object) -> str:
        """A command of the toolchain, in the environment."""
        return self.run(self.python, "-c", MAIN, *arguments)

    def script(self, name: str, *arguments: object) -> Any:
        """A script beside this one, which prints one JSON document."""
        return json.loads(self.run(self.python, ROOT / "benchmarks" / name, *arguments))

    def start(self, name: str, *arguments: object) -> None:
        """Starts a command of the toolchain beside others; `wait` ends it."""
        words = [self.python, "-c", MAIN, *map(str, arguments)]
        self._running[name] = subprocess.Popen(
            words,
            cwd=self.work,
            env=self._environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait(self, name: str) -> None:
        """Waits for what was started.

        Raises:
            RuntimeError: it failed.
            subprocess.TimeoutExpired: the time is up.
        """
        process = self._running[name]
        _, said = process.communicate(timeout=self.left)
        if process.returncode:
            raise RuntimeError(_last_line(said))

    def close(self) -> None:
        """Ends what is still running."""
        for process in self._running.values():
            if process.poll() is None:
                process.kill()
                process.communicate()

    def _environment(self) -> dict[str, str]:
        path = os.pathsep.join((str(ROOT), str(ROOT / "benchmarks")))
        return {**os.environ, "PYTHONPATH": path, **self.variables}


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
