"""How long a bundle takes from the start of a process to its first token, and its memory then.

The bundle is read once before, so that it lies in the page cache. Each round is a new process that
does what `runtime generate` does: imports, the check of the bundle, the session, a prompt. The
first round of a bundle checks every byte and is not counted; the others trust files that have not
changed since, as the command can, or with --every-byte check all again. Shown are medians over the
rounds, and the memory of a process that stands still behind its first token: anonymous memory is
its own, the weights are pages of files, which processes share.

Usage: first_token.py BUNDLE [--prompt-tokens 32] [--rounds 5] [--every-byte]
"""

import argparse
import json
import os
import subprocess
import sys
import time
from datetime import date
from itertools import pairwise
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
from build_memory import rollup

from runtime.bundle.checked_files import PLACE
from runtime.bundle.manifest import Manifest
from runtime.bundle.reader import load_bundle
from runtime.kernels.library import Kernels
from runtime.threads import usable_threads
from toolchain.host.machine import cpu_name

STAGES = ("interpreter and imports", "check", "session", "prompt to first token")
PROCESS = Path(__file__).parent / "first_token_process.py"


def measured(path: Path, prompt_tokens: int, cache: str) -> tuple[list[float], dict[str, int]]:
    """Seconds of each stage of one process, and its bytes of memory behind the first token."""
    command = [sys.executable, str(PROCESS), str(path), str(prompt_tokens)]
    started = time.monotonic()
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "XDG_CACHE_HOME": cache},
    ) as process:
        assert process.stdout is not None, "it is a pipe"
        ends = json.loads(process.stdout.readline())
        memory = rollup(process.pid)
        process.communicate("\n")
    return [end - start for start, end in pairwise([started, *ends])], memory


def cache_bytes(manifest: Manifest) -> int:
    """Keys and values of all slots."""
    model = manifest.model
    per_row = 2 * model.num_hidden_layers * model.num_key_value_heads * model.head_dim
    item = np.dtype(manifest.cache_dtype).itemsize
    return manifest.num_slots * manifest.cache_len * per_row * item


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--prompt-tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--every-byte", action="store_true")
    return parser.parse_args()


def main() -> None:
    """Measures and prints a table."""
    arguments = parse_arguments()
    manifest = load_bundle(arguments.bundle).manifest  # into the page cache
    with TemporaryDirectory() as cache:
        place = os.devnull if arguments.every_byte else cache
        Path(cache, PLACE).mkdir(parents=True)
        rounds = [
            measured(arguments.bundle, arguments.prompt_tokens, place)
            for _ in range(1 + arguments.rounds)
        ][1:]  # the first one fills the list
    stages = [median(times) for times in zip(*(times for times, _ in rounds), strict=True)]
    total = median(sum(times) for times, _ in rounds)
    size = sum(entry.size for entry in manifest.files.values())
    anonymous, resident = (
        median(memory[kind] for _, memory in rounds) / 1e6 for kind in ("Anonymous", "Rss")
    )
    print(
        f"{usable_threads()} threads of {cpu_name()}, kernels {Kernels().instruction_sets[0]}, "
        f"{date.today()}; {size / 1e9:.2f} GB of files, {arguments.prompt_tokens} tokens, medians "
        f"of {arguments.rounds}\n"
    )
    print("| from the start of the process | seconds | share |\n|---|--:|--:|")
    for stage, took in zip(STAGES, stages, strict=True):
        print(f"| {stage} | {took:.2f} | {100 * took / total:.0f} % |")
    print(
        f"| together | {total:.2f} | |\n\nMemory in MB: anonymous {anonymous:.0f}, of which cache "
        f"{cache_bytes(manifest) / 1e6:.0f}; resident {resident:.0f}"
    )


if __name__ == "__main__":
    main()
