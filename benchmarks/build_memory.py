"""Peak memory and time of export and compile, measured and planned, by depth.

The model is the miniature, then the shape of Chinese-Alpaca-2-7B with random weights: made up on
the way (--load-format dummy) or, with --checkpoint, read from two `.bin` shards that are written
first, and then a plain copy and sha256 of the same shards is timed beside the export.

The memory is sampled from /proc/PID/smaps_rollup of the command and its children through the whole
run: anonymous memory is what the work needs, resident memory includes files that are only mapped.
What `toolchain plan` said is in brackets. Written is all that went to disk, deleted files included,
as the kernel counts it (on a tmpfs it counts nothing); kept is what lies there afterwards.

Usage: build_memory.py [--layers 8 16 32] [--weights int4] [--checkpoint] [--directory DIR]
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

from seven_b import write_checkpoint, write_config

SAMPLE_SECONDS = 0.05
BLOCK = 512  # bytes; the unit of ru_oublock


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildRun:
    """One command: wall seconds, peak bytes, all bytes written, bytes in files afterwards."""

    seconds: float
    anonymous: int
    resident: int
    written: int
    kept: int


def measure(command: list[str], output: Path, log: Path) -> BuildRun:
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
    return BuildRun(
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


def planned(model: Path, weights: str) -> dict[str, dict[str, float]]:
    """Step -> line -> value, as `toolchain plan` has it.

    It exits with 1 where the model does not fit this machine, which is no matter here.
    """
    command = ["toolchain", "plan", str(model), "--weights", weights, "--json"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    build = json.loads(answer)["build"]
    return {step: {part["name"]: part["value"] for part in parts} for step, parts in build.items()}


def build(name: str, model: Path, directory: Path, weights: str, load_format: str) -> None:
    """Exports and compiles a model and prints a row for each."""
    exported, compiled = directory / "exported", directory / weights
    export = ["export", str(model), "-o", str(exported), "--load-format", load_format]
    lower = ["compile", str(exported), "-o", str(compiled), "--weights", weights]
    plan = planned(model, weights)
    for (step, *arguments), output in ((export, exported), (lower, compiled)):
        run = measure(["toolchain", step, *arguments], output, directory / f"{step}.log")
        print(
            f"| {name} | {step} | {run.seconds:.0f} | {run.anonymous / 1e6:.0f} "
            f"({plan[step]['host memory'] / 1e6:.0f}) | {run.resident / 1e6:.0f} "
            f"| {run.kept / 1e6:.1f} ({plan[step]['write'] / 1e6:.1f}) |",
            flush=True,
        )


def copy_seconds(model: Path, directory: Path) -> float:
    """Seconds that a plain copy and sha256 of the shards take."""
    shards = [str(shard) for shard in sorted(model.glob("*.bin"))]
    directory.mkdir()
    started = time.monotonic()
    subprocess.run(["cp", *shards, str(directory)], check=True)
    copies = [str(copy) for copy in directory.iterdir()]
    subprocess.run(["sha256sum", *copies], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - started


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, nargs="*", default=[8, 16, 32])
    parser.add_argument("--weights", default="int4")
    parser.add_argument("--checkpoint", action="store_true")
    parser.add_argument("--directory", type=Path, default=Path("build/build_memory"))
    arguments = parser.parse_args()
    print(f"{platform.machine()}, Python {platform.python_version()}, torch {version('torch')}\n")
    print("| model | step | seconds | anonymous MB | resident MB | kept MB |")
    print("|---|---|--:|--:|--:|--:|")
    directory = arguments.directory
    model = directory / "model"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    subprocess.run(["toolchain", "miniature", str(model)], check=True, capture_output=True)
    build("miniature", model, directory, arguments.weights, "auto")
    for layers in arguments.layers:
        shutil.rmtree(directory)
        if arguments.checkpoint:
            write_checkpoint(model, layers)
        else:
            write_config(model, layers)
        load_format = "auto" if arguments.checkpoint else "dummy"
        build(f"{layers} layers", model, directory, arguments.weights, load_format)
        if arguments.checkpoint:
            shutil.rmtree(directory / "exported")
            seconds = copy_seconds(model, directory / "copy")
            print(f"| {layers} layers | cp, sha256sum | {seconds:.0f} | | | |", flush=True)
    shutil.rmtree(directory)


if __name__ == "__main__":
    main()
