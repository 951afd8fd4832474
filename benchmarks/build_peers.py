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
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from build_memory import Run, measure
from seven_b import write_checkpoint

TORCH = "torch==2.13.0"  # what this toolchain pins
# The peers load the tokenizer through transformers, which guesses a class unless told.
TOKENIZER_CONFIG = {
    "tokenizer_class": "LlamaTokenizer",
    "add_bos_token": True,
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Another tool: its packages, and its command with {bin}, {model}, {output}, {cache}."""

    name: str
    packages: tuple[str, ...]
    besides: tuple[str, ...]  # installed too, but no part of the tool
    without_dependencies: tuple[str, ...] = ()
    command: tuple[str, ...]


PEERS = {
    "genai": Peer(
        name="ONNX Runtime GenAI, model builder",
        packages=("onnxruntime-genai==0.18.0", "onnxruntime==1.32.0"),
        besides=(
            TORCH,
            "transformers==5.23.0",
            "onnx==1.23.2",
            "onnx-ir==1.1.0",
            "sentencepiece==0.2.3",
            "protobuf==7.36.2",
        ),
        command=(
            *("{bin}/python", "-m", "onnxruntime_genai.models.builder"),
            *("-i", "{model}", "-o", "{output}", "-c", "{cache}", "-p", "int4", "-e", "cpu"),
        ),
    ),
    "openvino": Peer(
        name="OpenVINO, optimum-cli export",
        packages=("openvino==2026.4.1", "nncf==3.4.0"),
        besides=(
            TORCH,
            "optimum==2.3.0",
            "openvino-tokenizers==2026.4.1.0",
            "transformers==5.5.4",
            "huggingface-hub==1.21.0",
            "requests==2.34.2",
            "sentencepiece==0.2.3",
            "protobuf==7.36.2",
        ),
        # Its metadata asks for torchvision, which a text model does not use.
        without_dependencies=("optimum-intel==2.2.0",),
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


def drop_from_page_cache(directory: Path) -> None:
    """Makes the next reader of these files read the disk."""
    for file in directory.iterdir():
        with file.open("rb") as stream:
            os.fsync(stream.fileno())
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def install(peer: Peer, environment: Path) -> None:
    """Makes the peer's environment; one that has these packages already is kept."""
    wanted = "\n".join((*peer.packages, *peer.besides, *peer.without_dependencies))
    installed = environment / "installed.txt"
    if installed.is_file() and installed.read_text() == wanted:
        return
    print(f"installing {peer.name} into {environment}", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(environment)], check=True)
    pip = [str(environment / "bin" / "pip"), "install", "--quiet"]
    subprocess.run([*pip, *peer.packages, *peer.besides], check=True)
    if peer.without_dependencies:
        subprocess.run([*pip, "--no-deps", *peer.without_dependencies], check=True)
    installed.write_text(wanted)


def build_with_peer(peer: Peer, environment: Path, model: Path, directory: Path) -> Run:
    """Runs a peer with its home, its cache and its temporary files below the directory."""
    install(peer, environment)
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
    command = [part.format(**paths) for part in peer.command]
    drop_from_page_cache(model)
    return measure(["env", *variables, *command], directory, directory.with_suffix(".log"))


def build_with_ours(model: Path, directory: Path) -> dict[str, Run]:
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


def one_after_the_other(runs: Sequence[Run]) -> Run:
    """Times and bytes add up; of the memory the highest peak counts."""
    return Run(
        seconds=sum(run.seconds for run in runs),
        anonymous=max(run.anonymous for run in runs),
        resident=max(run.resident for run in runs),
        written=sum(run.written for run in runs),
        kept=sum(run.kept for run in runs),
    )


def row(tool: str, versions: str, run: Run) -> str:
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
    directory: Path = arguments.directory.resolve()
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
            peer = PEERS[tool]
            run = build_with_peer(peer, directory / "environments" / tool, model, directory / tool)
            packages = ", ".join((*peer.without_dependencies, *peer.packages)).replace("==", " ")
            print(row(peer.name, packages, run), flush=True)


if __name__ == "__main__":
    main()
