"""Virtual environments of the tools that this one is compared with, one for each.

Their dependencies exclude each other. The first use makes an environment and later ones keep it.
"""

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from toolchain.host.machine import cpu_features

__all__ = ["ENVIRONMENTS", "TORCH", "Environment", "install"]

TORCH = "torch==2.13.0"  # what this toolchain pins


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What pip installs, the tool's own packages first."""

    packages: tuple[str, ...]
    besides: tuple[str, ...]  # needed too, but no part of the tool
    without_dependencies: tuple[str, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)  # while pip compiles

    @property
    def versions(self) -> str:
        """The tool's own packages, as a table shows them."""
        return ", ".join((*self.without_dependencies, *self.packages)).replace("==", " ")


ENVIRONMENTS = {
    "genai": Environment(
        packages=("onnxruntime-genai==0.18.0", "onnxruntime==1.32.0"),
        besides=(
            TORCH,
            "transformers==5.23.0",
            "onnx==1.23.2",
            "onnx-ir==1.1.0",
            "sentencepiece==0.2.3",
            "protobuf==7.36.2",
        ),
    ),
    "openvino": Environment(
        packages=("openvino==2026.4.1", "nncf==3.4.0"),
        besides=(
            TORCH,
            "optimum==2.3.0",
            "openvino-genai==2026.4.1.0",
            "openvino-tokenizers==2026.4.1.0",
            "transformers==5.5.4",
            "huggingface-hub==1.21.0",
            "requests==2.34.2",
            "sentencepiece==0.2.3",
            "protobuf==7.36.2",
        ),
        # Its metadata asks for torchvision, which a text model does not use.
        without_dependencies=("optimum-intel==2.2.0",),
    ),
    "llama.cpp": Environment(
        packages=("llama-cpp-python==0.3.36",),
        besides=(TORCH, "gguf==0.19.0", "numpy==2.4.6"),
        # Compiled for the instructions of this CPU.
        variables={"CMAKE_ARGS": "-DGGML_NATIVE=ON -DCMAKE_BUILD_TYPE=Release"},
    ),
    # What builds llama.cpp's server, and what writes a model for it.
    "cmake": Environment(packages=("cmake==4.3.2", "ninja==1.13.0"), besides=()),
    "gguf": Environment(packages=("gguf==0.19.0",), besides=(TORCH, "numpy==2.4.6")),
}


def install(name: str, directory: Path) -> Path:
    """Makes a tool's environment below a directory; one that has these packages is kept."""
    wanted, environment = ENVIRONMENTS[name], directory / name
    # What was compiled for one CPU is compiled again for another.
    features = cpu_features() if wanted.variables else ()
    packages = "\n".join(
        (*wanted.packages, *wanted.besides, *wanted.without_dependencies, *features)
    )
    installed = environment / "installed.txt"
    if installed.is_file() and installed.read_text() == packages:
        return environment
    print(f"installing {name} into {environment}", file=sys.stderr)
    subprocess.run([sys.executable, "-m", "venv", "--clear", str(environment)], check=True)
    pip = [str(environment / "bin" / "pip"), "install", "--quiet"]
    variables = os.environ | wanted.variables
    subprocess.run([*pip, *wanted.packages, *wanted.besides], check=True, env=variables)
    if wanted.without_dependencies:
        subprocess.run([*pip, "--no-deps", *wanted.without_dependencies], check=True)
    installed.write_text(packages)
    return environment
