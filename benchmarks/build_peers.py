"""What this toolchain and its peers need to build one checkpoint into int4, as a Markdown table.

The checkpoint has the shape of Chinese-Alpaca-2-7B with fewer layers and random weights, on disk
in `.bin` shards. Each peer runs with its usual options, in a virtual environment of its own that
the first run makes; nothing is downloaded while it is measured. Memory, seconds and the bytes
written are measured as in build_memory.py; kept is what lies on disk afterwards. Before each tool
the checkpoint is dropped from the page cache, so that all of them read the disk.

With 8 layers the builder of ONNX Runtime GenAI takes 12 GB of memory and maps 4 GB of files;
21 GB of disk are needed, more where pip installs torch with CUDA.

Usage: build_peers.py [--layers 8] [--tools ours genai openvino] [--directory build/peers]
"""

import argparse
import json
import os
import platform
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from build_memory import BuildRun, measure
from environments import ENVIRONMENTS, TORCH, install
from seven_b import write_checkpoint

# The peers load the tokenizer through transformers, which guesses a class unless told.
TOKENIZER_CONFIG = {
    "tokenizer_class": "LlamaTokenizer",
    "add_bos_token": True,
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
}
COMPLETE = "complete"  # this file says that all others of a directory are written


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Another tool, and its command with {bin}, {model}, {output}, {cache}."""

    name: str
    command: tuple[str, ...]


PEERS = {
    "genai": Peer(
        name="ONNX Runtime GenAI, model builder",
        command=(
            *("{bin}/python", "-m", "onnxruntime_genai.models.builder"),
            *("-i", "{model}", "-o", "{output}", "-c", "{cache}", "-p", "int4", "-e", "cpu"),
            *("--extra_options", "prune_lm_head=true"),  # the last token's logits only, as others
        ),
    ),
    "openvino": Peer(
        name="OpenVINO, optimum-cli export",
        command=(
            *("{bin}/optimum-cli", "export", "openvino", "--model", "{model}"),
            *("--task", "text-generation-with-past", "--weight-format", "int4", "{output}"),
        ),
    ),
}


def write_model(model: Path, layers: int) -> None:
    """Writes the checkpoint, and the tokenizer's config that the peers need."""
    shutil.rmtree(model, ignore_errors=True)
    write_checkpoint(model, layers)
    (model / "tokenizer_config.json").write_text(json.dumps(TOKENIZER_CONFIG))
    (model / COMPLETE).touch()


def drop_from_page_cache(directory: Path) -> None:
    """Makes the next reader of these files read the disk."""
    for file in directory.iterdir():
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def build_with_peer(tool: str, environment: Path, model: Path, directory: Path) -> BuildRun:
    """Runs a peer with its home, its cache and its temporary files below the directory."""
    shutil.rmtree(directory, ignore_errors=True)
    places = {name: directory / name for name in ("output", "cache", "home", "temporary")}
    for place in places.values():
        place.mkdir(parents=True)
    variables = [
        f"HOME={places['home']}",
        f"HF_HOME={places['cache']}",
        f"TMPDIR={places['temporary']}",
        "HF_HUB_OFFLINE=1",
    ]
    paths = {"bin": environment / "bin", "model": model, **places}
    command = [part.format(**paths) for part in PEERS[tool].command]
    drop_from_page_cache(model)
    run = measure(["env", *variables, *command], directory, directory.with_suffix(".log"))
    (directory / COMPLETE).touch()
    return run


def build_with_ours(model: Path, directory: Path) -> dict[str, BuildRun]:
    """Exports and compiles."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    exported, compiled = directory / "exported", directory / "int4"
    export = ["toolchain", "export", str(model), "-o", str(exported)]
    build = ["toolchain", "compile", str(exported), "-o", str(compiled), "--weights", "int4"]
    drop_from_page_cache(model)
    return {
        "export": measure(export, exported, directory / "export.log"),
        "compile": measure(build, compiled, directory / "compile.log"),
    }


def one_after_the_other(runs: Sequence[BuildRun]) -> BuildRun:
    """Times and bytes add up; of the memory the highest peak counts."""
    return BuildRun(
        seconds=sum(run.seconds for run in runs),
        anonymous=max(run.anonymous for run in runs),
        resident=max(run.resident for run in runs),
        written=sum(run.written for run in runs),
        kept=sum(run.kept for run in runs),
    )


def row(tool: str, versions: str, run: BuildRun) -> str:
    """One line of the table."""
    return (
        f"| {tool} | {versions} | {run.seconds:.0f} | {run.anonymous / 1e6:.0f} "
        f"| {run.resident / 1e6:.0f} | {run.written / 1e9:.2f} | {run.kept / 1e9:.2f} |"
    )


def main() -> None:
    """Prints the table, row by row."""
    tools = ["ours", *PEERS]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--tools", nargs="+", choices=tools, default=tools)
    parser.add_argument("--directory", type=Path, default=Path("build/peers"))
    arguments = parser.parse_args()
    environments = arguments.directory.resolve() / "environments"
    directory = arguments.directory.resolve() / f"{arguments.layers}-layers"
    model = directory / "model"
    write_model(model, arguments.layers)
    machine, python = platform.machine(), platform.python_version()
    print(f"{arguments.layers} layers, {machine}, Python {python}, {TORCH.replace('==', ' ')}\n")
    print("| tool | version | seconds | anonymous MB | resident MB | written GB | kept GB |")
    print("|---|---|--:|--:|--:|--:|--:|", flush=True)
    for tool in arguments.tools:
        if tool == "ours":
            steps = build_with_ours(model, directory / "ours")
            whole = one_after_the_other(list(steps.values()))
            print(row("alpaca2-toolchain", version("alpaca2-toolchain"), whole))
            for step, part in steps.items():
                print(row(f"- {step}", "", part), flush=True)
        else:
            environment = install(tool, environments)
            run = build_with_peer(tool, environment, model, directory / tool)
            print(row(PEERS[tool].name, ENVIRONMENTS[tool].versions, run), flush=True)


if __name__ == "__main__":
    main()
