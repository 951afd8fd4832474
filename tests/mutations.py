"""Mutated files of others: every one is a named error in bounded time and memory, or right.

`python -m tests.mutations KIND COUNT SEED BUNDLES DIRECTORY` forks a run for each mutant, and
prints those that end in any other way.
"""

import io
import json
import os
import random
import resource
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runtime.bundle.reader import digest_line
from tests.paths import DATA

SECONDS = 10  # of processor time for one run
BYTES = 6 << 30  # of addresses; torch and ONNX Runtime map 2 GB of them
DEEP = "\x00deep\x00"  # stands for brackets that json.dumps would not nest
BIG = "\x00big\x00"
STRANGE: tuple[Any, ...] = (
    None,
    True,
    False,
    -1,
    0,
    1,
    2,
    3,
    7,
    255,
    65_536,
    2**31,
    2**63,
    2**64,
    10**30,
    -(10**30),
    0.5,
    -0.0,
    1e-300,
    1e300,
    float("inf"),
    float("-inf"),
    float("nan"),
    "",
    "x",
    "0",
    "1e999",
    "\x1b[2J",
    "\ud800",
    "../../etc/passwd",
    "/dev/zero",
    "x" * 10_000,
    "北京",
    [],
    {},
    [[]],
    [1, 2, 3],
    {"a": 1},
    {"value": 1},
    DEEP,
    BIG,
)


def mutate_value(value: Any, rng: random.Random) -> Any:
    """A JSON value with one thing changed somewhere in it."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(list(value))
        match rng.randrange(12):
            case 0:
                return {k: v for k, v in value.items() if k != key}
            case 1:
                return {**value, f"{key}_": value[key]}
            case 2:
                return {**value, rng.choice(["", "\x1b]0;t\x07", "__class__", key.upper()]): 1}
            case _:
                return {**value, key: mutate_value(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.85:
        i = rng.randrange(len(value))
        match rng.randrange(8):
            case 0:
                return value[:i] + value[i + 1 :]
            case 1:
                return value + [value[i]] * rng.choice([1, 5, 1000])
            case _:
                return [*value[:i], mutate_value(value[i], rng), *value[i + 1 :]]
    if isinstance(value, int | float) and not isinstance(value, bool) and rng.random() < 0.4:
        return rng.choice([value + 1, value - 1, -value, value * 2, value * 10**6, value / 3])
    return rng.choice(STRANGE)


def mutate_json(data: bytes, rng: random.Random) -> bytes:
    """A JSON document, changed as data or as bytes."""
    if rng.random() < 0.15:
        return mutate_bytes(data, rng)
    text = json.dumps(mutate_value(json.loads(data), rng), indent=2)
    depth, digits = rng.choice([100, 5_000, 100_000]), rng.choice([400, 5_000, 50_000])
    text = text.replace(json.dumps(DEEP), "[" * depth + "]" * depth)
    return text.replace(json.dumps(BIG), "9" * digits).encode("utf-8", "surrogatepass")


def mutate_bytes(data: bytes, rng: random.Random) -> bytes:
    """Bytes cut, changed, repeated or led by a mark."""
    i = rng.randrange(len(data) + 1)
    match rng.randrange(8):
        case 0:
            return data[:i]
        case 1:
            return b""
        case 2:
            return data[:i] + rng.randbytes(rng.choice([1, 4, 64])) + data[i:]
        case 3:
            return b"\xef\xbb\xbf" + data
        case 4:
            return data.decode("latin-1").encode("utf-16")
        case 5:
            return data[:i] + b"\x00" * 16 + data[i + 16 :]
        case 6:
            return data + data
        case _:
            changed = bytearray(data)
            for _ in range(rng.choice([1, 3, 20])):
                if changed:
                    changed[rng.randrange(len(changed))] = rng.randrange(256)
            return bytes(changed)


def mutate_toml(data: bytes, rng: random.Random) -> bytes:
    """A profile with a line or a value changed."""
    if rng.random() < 0.2:
        return mutate_bytes(data, rng)
    lines = data.decode().splitlines()
    i = rng.choice([n for n, line in enumerate(lines) if "=" in line])
    head, _, old = lines[i].partition("=")
    values = [
        "-1", "0", "1e999", "inf", "nan", "9" * rng.choice([30, 5_000]), '""', "[]", "{}", "true",
        "[" * 5_000 + "]" * 5_000, "1979-05-27", '"x\\u001b[2J"', old.replace("1", "99999999"),
        old.replace("40", "1000000000"), "{ value = inf, source = '' }",
    ]  # fmt: skip
    lines[i] = f"{head}= {rng.choice(values)}"
    if rng.random() < 0.2:
        del lines[rng.randrange(len(lines))]
    return "\n".join(lines).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of file.

    source: of the original, below the bundles.
    copy: what is copied as it is; the mutant replaces `place` in it.
    run: the arguments of a command, or a function of the directory.
    """

    source: str
    place: str
    mutate: Callable[[bytes, random.Random], bytes]
    run: Callable[[Path], None]
    copy: str | None = None


def command(*arguments: str) -> Callable[[Path], None]:
    """Becomes a command line; {} is the directory of the mutant."""

    def run(directory: Path) -> None:
        if arguments[0] == "runtime":
            from runtime.cli import main
        else:
            from toolchain.cli import main
        sys.argv = [part.format(directory, data=DATA) for part in arguments]
        main()

    return run


def read_checkpoint(model: Path) -> None:
    """Reads every weight of a checkpoint."""
    from export.checkpoint import open_checkpoint
    from export.config import load_config
    from export.parameters import parameters
    from runtime.console import run_app

    def read() -> None:
        config = load_config(model)
        checkpoint = open_checkpoint(model, config)
        for name in parameters(config):
            for _ in checkpoint.chunks(name):
                pass

    run_app(read)


def read_tokenizer(model: Path) -> None:
    """Encodes and decodes with a tokenizer."""
    from runtime.console import run_app
    from runtime.text.tokenizer import Tokenizer

    def use() -> None:
        tokenizer = Tokenizer(model / "tokenizer.model")
        tokenizer.decode(tokenizer.encode("What is 北京? <s> \x00", add_bos=True))

    run_app(use)


MODEL, BUNDLE = "checkpoint", "talk-int4"
PLAN = command("toolchain", "plan", "{}", "--profile", "{data}/small.toml", "--json")
KINDS = {
    "config": Kind(
        source=f"{MODEL}/config.json", place="config.json", mutate=mutate_json, run=PLAN
    ),
    "profile": Kind(
        source="small.toml",
        place="profile.toml",
        copy=MODEL,
        mutate=mutate_toml,
        run=command("toolchain", "plan", "{}", "--profile", "{}/profile.toml", "--json"),
    ),
    "manifest": Kind(
        source=f"{BUNDLE}/manifest.json",
        place="manifest.json",
        copy=BUNDLE,
        mutate=mutate_json,
        run=command("runtime", "generate", "{}", "hi", "-n", "2"),
    ),
    "generation": Kind(
        source=f"{MODEL}/generation_config.json",
        place="generation_config.json",
        copy=MODEL,
        mutate=mutate_json,
        run=command("toolchain", "export", "{}", "-o", "{}.out", "--profile", "{}/absent.toml"),
    ),
    "shard": Kind(
        source=f"{MODEL}/pytorch_model-00001-of-00002.bin",
        place="pytorch_model-00001-of-00002.bin",
        copy=MODEL,
        mutate=mutate_bytes,
        run=read_checkpoint,
    ),
    "index": Kind(
        source=f"{MODEL}/pytorch_model.bin.index.json",
        place="pytorch_model.bin.index.json",
        copy=MODEL,
        mutate=mutate_json,
        run=read_checkpoint,
    ),
    "tokenizer": Kind(
        source=f"{MODEL}/tokenizer.model",
        place="tokenizer.model",
        mutate=mutate_bytes,
        run=read_tokenizer,
    ),
    "result": Kind(
        source="result.json",
        place="result.json",
        mutate=mutate_json,
        run=command("toolchain", "compare", "{}/result.json", "manual:a100"),
    ),
}


def bounded(run: Callable[[Path], None], directory: Path) -> None:
    """In the child: runs with what it prints in files, and ends."""
    for fd, name in ((1, "stdout"), (2, "stderr")):
        file = directory.with_suffix(f".{name}")
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), fd)
    sys.stdin = io.TextIOWrapper(io.BytesIO())
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
    code = 0
    try:
        run(directory)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 70
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def complaint(code: int, directory: Path) -> str | None:
    """What is wrong with how a run has ended; None for a result or one line of error."""
    said = directory.with_suffix(".stderr").read_text(errors="replace")
    lines = said.splitlines()
    if code == 0 and "Traceback" not in said:
        return None
    if code == 1 and lines and lines[-1].startswith("error: ") and "Traceback" not in said:
        return None
    return f"exit {code}: {said[-400:] or 'silent'}"


def main() -> None:
    """Forks a run for each mutant."""
    name, count, seed, bundles, work = sys.argv[1:]
    kind, directory = KINDS[name], Path(work)
    original = (DATA if kind.source.endswith(".toml") else Path(bundles)) / kind.source
    data = original.read_bytes()
    for number in range(int(count)):
        rng = random.Random(f"{name} {seed} {number}")
        mutant = directory / f"{name}-{seed}-{number}"
        if kind.copy is None:
            mutant.mkdir(parents=True)
        else:
            shutil.copytree(Path(bundles) / kind.copy, mutant, copy_function=os.link)
        changed = kind.mutate(data, rng)
        (mutant / kind.place).unlink(missing_ok=True)
        (mutant / kind.place).write_bytes(changed)
        if kind.place == "manifest.json":
            (mutant / "manifest.sha256").unlink()
            (mutant / "manifest.sha256").write_bytes(digest_line(changed))
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGXCPU, signal.SIG_DFL)
            bounded(kind.run, mutant)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        found = complaint(code, mutant)
        if found is None:
            shutil.rmtree(mutant)
        else:
            print(f"{mutant}: {found}", flush=True)


if __name__ == "__main__":
    main()
