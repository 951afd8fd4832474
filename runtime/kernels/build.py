"""Builds the library of kernels with the system's compiler or, where it has none, with ziglang.

`python -m runtime.kernels.build` builds it where the runtime looks for it. Installing the project
does the same. This module needs nothing but Python, since it runs before anything is installed.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

__all__ = [
    "LIBRARY",
    "BuildError",
    "build",
    "find_compiler",
    "has_compiler",
    "wheel_platform",
]

NATIVE = Path(__file__).parent / "native"
LIBRARY = Path(__file__).parent / "libalpaca2_kernels.so"

# The floats of all instruction sets must agree to the last bit: no contraction to what rounds once.
FLAGS = (
    "-std=c++17",
    "-O3",
    "-fPIC",
    "-fvisibility=hidden",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-exceptions",
    "-fno-rtti",
    "-Wall",
    "-Wextra",
    "-Wconversion",
    "-Wno-maybe-uninitialized",  # in GCC's own headers of intrinsics
)
LINK = ("-shared", "-s", "-Wl,--no-undefined", "-Wl,--as-needed")
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g")
ZIG_TARGET = "{machine}-linux-gnu.2.28"  # the glibc that ONNX Runtime asks for as well


class BuildError(Exception):
    """There is no compiler, or it failed; says which and how."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A file and what it is compiled with besides FLAGS, on machines that have it."""

    name: str
    flags: tuple[str, ...] = ()
    machines: tuple[str, ...] = ("x86_64", "aarch64")


SOURCES = (
    Source(name="portable.cpp"),
    Source(name="avx2.cpp", flags=("-mavx2", "-mfma", "-mf16c"), machines=("x86_64",)),
    Source(
        name="avx512_vnni.cpp",
        flags=("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512vnni", "-mfma"),
        machines=("x86_64",),
    ),
    Source(name="instruction_sets.cpp"),
    Source(name="custom_op.cpp"),
)


def find_compiler() -> tuple[str, ...]:
    """The command of the C++ compiler: $CXX, c++, g++, clang++ or ziglang, the first there is.

    Raises:
        BuildError: there is none.
    """
    for name in filter(None, (os.environ.get("CXX"), "c++", "g++", "clang++")):
        if shutil.which(name):
            return (name,)
    if find_spec("ziglang"):
        target = ZIG_TARGET.format(machine=platform.machine())
        return (sys.executable, "-m", "ziglang", "c++", "-target", target)
    raise BuildError("no C++ compiler: install g++ or clang, or `pip install ziglang`")


def has_compiler() -> bool:
    """Whether the library can be built now."""
    try:
        find_compiler()
    except BuildError:
        return False
    return True


def wheel_platform() -> str:
    """The platform of a wheel's name: with ziglang the glibc is known that the library needs."""
    kind = "manylinux_2_28" if "ziglang" in find_compiler() else "linux"
    return f"{kind}_{platform.machine()}"


def build(library: Path = LIBRARY, extra: Sequence[str] = ()) -> Path:
    """Compiles all sources for this machine's architecture; the library is replaced at once.

    Args:
        library: the file to write.
        extra: more flags of the compiler.

    Raises:
        BuildError: no compiler, or what it said.
    """
    compiler = find_compiler()
    sources = [source for source in SOURCES if platform.machine() in source.machines]
    with tempfile.TemporaryDirectory(dir=library.parent) as directory:
        objects = [str(Path(directory, source.name).with_suffix(".o")) for source in sources]
        commands = [
            [*compiler, *FLAGS, *extra, *source.flags, "-c", str(NATIVE / source.name), "-o", made]
            for source, made in zip(sources, objects, strict=True)
        ]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(_run, commands))
        linked = str(Path(directory, library.name))
        _run([*compiler, *LINK, *extra, *objects, "-o", linked, "-lm"])
        os.replace(linked, library)
    return library


def _run(command: list[str]) -> None:
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode:
        raise BuildError(f"{' '.join(command)}\n{ran.stderr}")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Builds the library of kernels.")
    parser.add_argument("-o", dest="library", type=Path, default=LIBRARY, help="file to write")
    parser.add_argument("--sanitize", action="store_true", help="with ASan and UBSan, for tests")
    arguments = parser.parse_args()
    try:
        print(build(arguments.library, SANITIZERS if arguments.sanitize else ()))
    except BuildError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
