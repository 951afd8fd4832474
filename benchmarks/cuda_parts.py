"""The parts of `cuda.py`, in order. Needs no package: what does runs in the environment."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cuda_steps import ROOT, Steps
from cuda_table import Line

__all__ = ["PARTS", "Part"]

Part = Callable[[Steps], list[Line]]
SEES = {
    "cuda": "import torch; assert torch.cuda.is_available(), torch.__version__",
    "cpu": "import torch",
}
PROFILE = """name = "cuda-run"
description = "benchmarks/cuda.py"
target = "{target}"
weights = "{weights}"
block_size = 128
slots = {slots}
graphs = [
{graphs}]
"""
GRAPH = '  {{ phase = "{}", batch_size = {}, seq_len = {}, cache_len = {} }},\n'
BANDWIDTH_GOAL, INT4_GOAL, PROMPT_GOAL = 0.85, 2.2, 1.3
OUTPUT = 64  # tokens of an answer
WRITE_CONFIG = """
import json, sys
from pathlib import Path
from seven_b import CONFIG
directory = Path(sys.argv[1])
directory.mkdir()
(directory / "config.json").write_text(json.dumps(CONFIG | json.loads(sys.argv[2])))
"""


def machine(steps: Steps) -> list[Line]:
    """What is there, before anything is installed."""
    found = {
        "Python": sys.version.split()[0],
        "g++": shutil.which("g++") or "none: apt install g++ (AOTInductor needs it)",
        "nvidia-smi": _said(
            "nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"
        ),
        "CUDA headers": str(next(Path("/usr/local").glob("cuda*/include/cuda.h"), "none")),
    }
    return [Line(part="machine", what=name, measured=text) for name, text in found.items()]


def environment(steps: Steps) -> list[Line]:
    """A Python that has torch for the device, and this toolchain's packages."""
    check = SEES[steps.settings.device]
    try:
        steps.run(steps.python, "-c", f"{check}; import onnx_ir, onnxscript, pydantic")
    except RuntimeError as lacking:
        steps.tell(f"{lacking}: making an environment")
        steps.run(sys.executable, "-m", "venv", steps.work / "venv")
        steps.python = str(steps.work / "venv/bin/python")
        steps.run(steps.python, "-m", "pip", "install", "--quiet", f"{ROOT}[export,torch]")
        steps.run(steps.python, "-c", check)
    version = steps.run(steps.python, "-c", "import torch; print(torch.__version__)")
    home = _cuda_home(steps) if steps.settings.device == "cuda" else "not needed"
    return [
        Line(part="environment", what="torch", measured=version.strip()),
        Line(part="environment", what="CUDA_HOME", measured=home),
    ]


def _cuda_home(steps: Steps) -> str:
    """CUDA's toolkit where it is installed, else what the wheels have of it, laid out alike."""
    ask = "from torch.utils.cpp_extension import CUDA_HOME; print(CUDA_HOME or '')"
    installed = steps.run(steps.python, "-c", ask).strip()
    if installed:
        return installed
    ask = "import torch; print(torch.__path__[0])"
    wheels = Path(steps.run(steps.python, "-c", ask).strip()).parent / "nvidia"
    header = next(wheels.rglob("cuda.h"), None)
    driver = next(Path("/usr").rglob("libcuda.so.1"), None)
    if header is None or driver is None:
        return f"none: cuda.h {header or 'lacks'}, libcuda.so.1 {driver or 'lacks'}"
    home = steps.work / "cuda-home"
    stubs = home / "lib64/stubs"
    stubs.mkdir(parents=True)
    (home / "include").symlink_to(header.parent)
    for library in header.parent.parent.glob("lib/lib*"):
        (home / "lib64" / library.name).symlink_to(library)
    (stubs / "libcuda.so").symlink_to(driver)
    steps.variables["CUDA_HOME"] = str(home)
    return f"{home}, made of the wheels'"


def rates(steps: Steps) -> list[Line]:
    """A copy within the device, and the products of a prompt alone."""
    settings = steps.settings
    shape = json.dumps(settings.shape)
    steps.run(steps.python, "-c", WRITE_CONFIG, steps.work / "model", shape)
    found = steps.script("cuda_rates.py", settings.device, steps.work / "model", settings.prompt)
    steps.card = found["card"]
    steps.found |= found
    return [
        Line(part="copy", what="read and written", measured=_gb(found["copy_bytes_per_s"])),
        Line(
            part="products",
            what=f"{settings.prompt} tokens, linear layers alone",
            measured=f"{found['products_ms']:.1f} ms",
        ),
    ]


def compiling(steps: Steps) -> list[Line]:
    """Exports random weights of the shape; starts to compile every precision beside the others."""
    settings = steps.settings
    profile = steps.work / "profile.toml"
    profile.write_text(_profile(steps, settings.batch_sizes))
    arguments = ("--profile", profile, "--load-format", "dummy")
    steps.toolchain("export", steps.work / "model", "-o", steps.work / "exported", *arguments)
    for weights in settings.weights:
        chosen = ("--target", settings.target, "--weights", weights)
        steps.start(
            weights, "compile", steps.work / "exported", "-o", steps.work / weights, *chosen
        )
    return []


def speed(steps: Steps) -> list[Line]:
    """Every precision at every batch size, as soon as it is compiled."""
    lines = list[Line]()
    for weights in steps.settings.weights:
        try:
            steps.wait(weights)
            lines += _measured(steps, weights)
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            lines.append(Line(part="speed", what=weights, measured=f"not run: {error}"[:300]))
    return lines


def _measured(steps: Steps, weights: str) -> list[Line]:
    settings, output = steps.settings, steps.work / f"{weights}.json"
    sizes = [word for size in settings.batch_sizes for word in ("--batch-size", str(size))]
    answer = min(OUTPUT, settings.cache_len - settings.prompt)
    case = ("--case", f"{settings.prompt},{answer}", "--repeats", settings.repeats)
    steps.toolchain("bench", steps.work / weights, *case, *sizes, "--output", output)
    rows = _rows(json.loads(output.read_text()))
    return [line for row in rows for line in _lines(steps, weights, row)]


def _rows(document: dict[str, Any]) -> list[dict[str, Any]]:
    [result] = document.get("results", [document])
    rows: list[dict[str, Any]] = result["rows"]
    return rows


def _lines(steps: Steps, weights: str, row: dict[str, Any]) -> list[Line]:
    """Time per token and bandwidth; of one sequence the first token too, beside the goals."""
    size, settings = row["batch_size"], steps.settings
    per_token, first = row["decode"]["took_ms"], row["ttft_ms"]["median"]
    reached = row["decode"]["moved_bytes"] / (per_token / 1e3)
    text = f"{per_token:.2f} ms, {1e3 * size / per_token:.0f} tokens/s, {_gb(reached)}"
    if "copy_bytes_per_s" in steps.found:
        text += f", {reached / steps.found['copy_bytes_per_s']:.0%} of the copy"
    if size > 1:
        return [Line(part="speed", what=f"{weights}, {size} sequences", measured=text)]
    goal = f">= {BANDWIDTH_GOAL:.0%} of the copy" if weights in ("fp16", "bf16") else ""
    plain = steps.found.setdefault("per_token_ms", per_token)
    if weights == "int4":
        text, goal = f"{text}, {plain / per_token:.2f} x", f">= {INT4_GOAL} x {settings.weights[0]}"
    prompt = f"{first:.1f} ms"
    if "products_ms" in steps.found:
        prompt += f", {first / steps.found['products_ms']:.2f} x the products"
    return [
        Line(part="speed", what=f"{weights}, 1 sequence", measured=text, goal=goal),
        Line(
            part="first token",
            what=f"{weights}, {settings.prompt} tokens",
            measured=prompt,
            goal=f"<= {PROMPT_GOAL} x" if weights in ("fp16", "bf16") else "",
        ),
    ]


def correctness(steps: Steps) -> list[Line]:
    """The miniature, whose answers are known, in the first precision: `verify`."""
    mini, settings = steps.work / "miniature", steps.settings
    profile = steps.work / "miniature.toml"
    profile.write_text(_profile(steps, (1, 4), prompt=64, cache_len=512))
    steps.toolchain("miniature", mini)
    steps.toolchain("export", mini, "-o", steps.work / "mini-exported", "--profile", profile)
    chosen = ("--target", settings.target, "--weights", settings.weights[0])
    steps.toolchain("compile", steps.work / "mini-exported", "-o", steps.work / "mini", *chosen)
    steps.toolchain("verify", steps.work / "mini", "--model", mini)
    return [Line(part="verify", what=f"miniature, {settings.weights[0]}", measured="passed")]


def manual(steps: Steps) -> list[Line]:
    """Beside the manual's A100."""
    output = steps.work / f"{steps.settings.weights[0]}.json"
    said = steps.toolchain("compare", output, "manual:a100", "--markdown")
    rows = [line.strip("| ") for line in said.splitlines() if line.startswith("|")]
    return [Line(part="manual:a100", what="", measured=row.replace("|", "/")) for row in rows]


PARTS: dict[str, Part] = {
    "machine": machine,
    "environment": environment,
    "rates": rates,
    "compiling": compiling,
    "speed": speed,
    "manual": manual,
    "verify": correctness,
}


def _profile(steps: Steps, sizes: tuple[int, ...], prompt: int = 0, cache_len: int = 0) -> str:
    """The graphs that are measured: one that starts a prompt, one for what follows, decode."""
    settings = steps.settings
    prompt, cache_len = prompt or settings.prompt, cache_len or settings.cache_len
    graphs = [("prefill", 1, prompt, 0), ("prefill", 1, prompt, cache_len)]
    graphs += [("decode", size, 1, cache_len) for size in sizes]
    text = PROFILE.format(
        target=settings.target,
        weights=settings.weights[0],
        slots=max(sizes),
        graphs="".join(GRAPH.format(*graph) for graph in graphs),
    )
    if not settings.chip:
        return text
    shipped = (ROOT / "profiles" / f"{settings.chip}.toml").read_text()
    return text + shipped[shipped.index("[chip]") :]


def _gb(rate: float) -> str:
    return f"{rate / 1e9:,.1f} GB/s"


def _said(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError) as error:
        return f"none: {error}"
    return " ".join(done.stdout.split())
