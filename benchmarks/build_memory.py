"""Peak memory and time of export and compile, by depth, on the shape of Chinese-Alpaca-2-7B.

Random weights (--load-format dummy), so no checkpoint is needed. The memory is sampled from
/proc/PID/smaps_rollup of the command and its children through the whole run: anonymous memory is
what the work needs, resident memory includes files that are only mapped. Written is all that went
to disk, deleted files included, as the kernel counts it (on a tmpfs it counts nothing).

Usage: build_memory.py [--layers 8 16 32] [--weights int4] [--directory DIR]
"""

import argparse
import json
import platform
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

SAMPLE_SECONDS = 0.05
BLOCK = 512  # bytes; the unit of ru_oublock
SEVEN_B = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_act": "silu",
    "vocab_size": 55296,
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "max_position_embeddings": 4096,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One command: wall seconds, peak bytes, all bytes written, bytes in files afterwards."""

    seconds: float
    anonymous: int
    resident: int
    written: int
    kept: int


def measure(command: list[str], output: Path, log: Path) -> Run:
    """Runs a command to its end and watches its memory; what it prints goes to the log."""
    started, written_before = time.monotonic(), written_by_children()
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)
    anonymous = resident = 0
    while process.poll() is None:
        usage = [rollup(pid) for pid in family(process.pid)]
        anonymous = max(anonymous, sum(one["Anonymous"] for one in usage))
        resident = max(resident, sum(one["Rss"] for one in usage))
        time.sleep(SAMPLE_SECONDS)
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed with {process.returncode}; see {log}")
    return Run(
        seconds=time.monotonic() - started,
        anonymous=anonymous,
        resident=resident,
        written=written_by_children() - written_before,
        kept=sum(file.stat().st_size for file in output.rglob("*") if file.is_file()),
    )


def written_by_children() -> int:
    """Bytes that children which have ended wrote to disk."""
    return BLOCK * resource.getrusage(resource.RUSAGE_CHILDREN).ru_oublock


def family(pid: int) -> list[int]:
    """A process and its children."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return [pid]
    return [pid, *(grandchild for child in children for grandchild in family(int(child)))]


def rollup(pid: int) -> dict[str, int]:
    """Bytes by kind; zeros for a process that has ended."""
    kinds = {"Anonymous": 0, "Rss": 0}
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return kinds
    for line in lines[1:]:
        name, value, *_ = line.split()
        if name.rstrip(":") in kinds:
            kinds[name.rstrip(":")] = 1024 * int(value)
    return kinds


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--weights", default="int4")
    parser.add_argument("--directory", type=Path, default=Path("build/build_memory"))
    arguments = parser.parse_args()
    print(f"{platform.machine()}, Python {platform.python_version()}, torch {version('torch')}\n")
    print("| layers | step | seconds | anonymous MB | resident MB | written GB |")
    print("|--:|---|--:|--:|--:|--:|")
    for layers in arguments.layers:
        shutil.rmtree(arguments.directory, ignore_errors=True)
        model, exported = arguments.directory / "model", arguments.directory / "exported"
        compiled = arguments.directory / arguments.weights
        model.mkdir(parents=True)
        config = {**SEVEN_B, "num_hidden_layers": layers}
        (model / "config.json").write_text(json.dumps(config))
        export = ["export", str(model), "-o", str(exported), "--load-format", "dummy"]
        build = ["compile", str(exported), "-o", str(compiled), "--weights", arguments.weights]
        for step, output in ((export, exported), (build, compiled)):
            run = measure(["toolchain", *step], output, arguments.directory / f"{step[0]}.log")
            print(
                f"| {layers} | {step[0]} | {run.seconds:.0f} | {run.anonymous / 1e6:.0f} "
                f"| {run.resident / 1e6:.0f} | {run.written / 1e9:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
