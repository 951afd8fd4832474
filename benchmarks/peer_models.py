"""The engines that peers.py compares, and the models that they run, all of one checkpoint.

Models of peers are kept for the next run. Ours are built each time, since this code changes.
"""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from build_peers import COMPLETE, build_with_peer, write_model
from environments import install

__all__ = ["ENGINES", "LONG_ONLY", "EngineSpec", "command", "make_models"]

HERE = Path(__file__).parent
PROFILE = HERE.parent / "profiles" / "cpu.toml"
GRAPHS = """graphs = [
  {{ phase = "prefill", batch_size = 1, seq_len = 128, cache_len = {cache_len} }},
  {{ phase = "decode", batch_size = 1, seq_len = 1, cache_len = {cache_len} }},
]
"""
# Options of `toolchain compile`, by the bundle's name.
OURS = {
    "int4": ("--weights", "int4"),
    "int4-kv8": ("--weights", "int4", "--kv-cache", "int8"),
    "int8": ("--weights", "int8"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpec:
    """What runs a model: a file of engines/, in a tool's environment, or in this one for ours."""

    runner: str
    tool: str
    model: str  # below the directory of one depth


ENGINES = {
    "ours-int4": EngineSpec(runner="ours.py", tool="ours", model="ours/int4"),
    "ours-int4-kv8": EngineSpec(runner="ours.py", tool="ours", model="ours/int4-kv8"),
    "ours-int8": EngineSpec(runner="ours.py", tool="ours", model="ours/int8"),
    "llama.cpp-q4_0": EngineSpec(runner="llama.py", tool="llama.cpp", model="llama.cpp/q4_0.gguf"),
    "llama.cpp-q8_0": EngineSpec(runner="llama.py", tool="llama.cpp", model="llama.cpp/q8_0.gguf"),
    "llama.cpp-q4_0-kv8": EngineSpec(
        runner="llama_kv8.py", tool="llama.cpp", model="llama.cpp/q4_0.gguf"
    ),
    "openvino-int4": EngineSpec(runner="open_vino.py", tool="openvino", model="openvino/output"),
    "genai-int4": EngineSpec(runner="genai.py", tool="genai", model="genai/output"),
}
LONG_ONLY = ("llama.cpp-q4_0-kv8",)  # for long_context.py alone


def command(name: str, directory: Path, layers: int, context_len: int) -> list[str]:
    """Starts an engine's process on its model."""
    engine = ENGINES[name]
    model = models_directory(directory, layers) / engine.model
    runner = HERE / "engines" / engine.runner
    return [python(engine.tool, directory), str(runner), str(model), str(context_len)]


def make_models(names: list[str], directory: Path, layers: int, context_len: int) -> None:
    """Makes the environments and the models of these engines, where they are not there yet."""
    models = models_directory(directory, layers)
    checkpoint = models / "model"
    if not (checkpoint / COMPLETE).is_file():
        write_model(checkpoint, layers)
    wanted: dict[str, list[Path]] = {}
    for name in names:
        wanted.setdefault(ENGINES[name].tool, []).append(models / ENGINES[name].model)
    for tool, paths in wanted.items():
        print(f"making models for {tool}", file=sys.stderr)
        if tool == "ours":
            make_ours(checkpoint, paths, context_len)
        elif tool == "llama.cpp":
            make_llama(checkpoint, paths, python(tool, directory))
        elif not (models / tool / COMPLETE).is_file():
            environment = install(tool, directory / "environments")
            build_with_peer(tool, environment, checkpoint, models / tool)


def models_directory(directory: Path, layers: int) -> Path:
    """Where the models of one depth lie."""
    return directory / f"{layers}-layers"


def python(tool: str, directory: Path) -> str:
    """The interpreter of a tool's environment, which is made at its first use."""
    if tool == "ours":
        return sys.executable
    return str(install(tool, directory / "environments") / "bin" / "python")


def make_ours(checkpoint: Path, bundles: list[Path], context_len: int) -> None:
    """Exports once and compiles each bundle, for one sequence of the length that is needed."""
    directory = bundles[0].parent
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    settings, _, _ = PROFILE.read_text().partition("graphs = [")
    profile = directory / "cpu.toml"
    profile.write_text(settings + GRAPHS.format(cache_len=context_len))
    exported = directory / "exported"
    # Positions for a cache of any length; up to the trained one it changes nothing.
    toolchain("export", checkpoint, "-o", exported, "--profile", profile, "--rope", "ntk:auto")
    for bundle in bundles:
        toolchain("compile", exported, "-o", bundle, *OURS[bundle.name])
    shutil.rmtree(exported)


def toolchain(*arguments: str | Path) -> None:
    """Runs a command of this toolchain; what it prints is of no interest here."""
    command = ["toolchain", *map(str, arguments)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def make_llama(checkpoint: Path, files: list[Path], interpreter: str) -> None:
    """Makes the GGUF files that are missing."""
    missing = [file for file in files if not file.is_file()]
    if missing:
        directory = missing[0].parent
        directory.mkdir(exist_ok=True)
        script = HERE / "engines" / "gguf_model.py"
        precisions = [file.stem for file in missing]
        subprocess.run([interpreter, script, checkpoint, directory, *precisions], check=True)
