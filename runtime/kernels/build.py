"""Builds the library of kernels with the system's compiler or, where it has none, with ziglang.

`python -m runtime.kernels.build` builds it where the runtime looks for it. Installing the project
does the same. For another machine ziglang compiles always. This module needs nothing but Python,
since it runs before anything is installed.
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
    "MACHINES",
    "NATIVE",
    "THIS_MACHINE",
    "BuildError",
    "build",
    "compile_sources",
    "find_compiler",
    "has_compiler",
    "wheel_platform",
    "zig",
]

NATIVE = Path(__file__).parent / "native"
LIBRARY = Path(__file__).parent / "libalpaca2_kernels.so"
MACHINES = ("x86_64", "aarch64")
THIS_MACHINE = platform.machine()

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
    """A file and what it is compiled with besides FLAGS, on machines that have it.

    arm: features beyond ARMv8.2, which ziglang is told in another way than GCC and clang.
    """

    name: str
    flags: tuple[str, ...] = ()
    arm: str = ""
    machines: tuple[str, ...] = MACHINES

    def options(self, compiler: Sequence[str]) -> tuple[str, ...]:
        """Of its instruction set."""
        if not self.arm:
            return self.flags
        base = "-mcpu=generic+v8_2a" if "ziglang" in compiler else "-march=armv8.2-a"
        return (*self.flags, f"{base}+{self.arm}")


AVX2 = ("-mavx2", "-mfma", "-mf16c")
SOURCES = (
    Source(name="portable.cpp"),
    Source(name="avx2.cpp", flags=AVX2, machines=("x86_64",)),
    Source(name="avx_vnni.cpp", flags=(*AVX2, "-mavxvnni"), machines=("x86_64",)),
    Source(
        name="avx512_vnni.cpp",
        flags=("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512vnni", "-mfma"),
        machines=("x86_64",),
    ),
    Source(name="neon_dotprod.cpp", arm="dotprod", machines=("aarch64",)),
    Source(name="neon_i8mm.cpp", arm="dotprod+i8mm", machines=("aarch64",)),
    Source(name="instruction_sets.cpp"),
    Source(name="tiled_matmul.cpp"),
    Source(name="cached_attention.cpp"),
    Source(name="custom_op.cpp"),
)


def find_compiler(machine: str = THIS_MACHINE) -> tuple[str, ...]:
    """The command of the C++ compiler: $CXX, c++, g++, clang++ or ziglang, the first there is.

    Args:
        machine: that it compiles for; for another one than this only ziglang can.

    Raises:
        BuildError: there is none.
    """
    if machine == THIS_MACHINE:
        for name in filter(None, (os.environ.get("CXX"), "c++", "g++", "clang++")):
            if shutil.which(name):
                return (name,)
    if find_spec("ziglang"):
        return zig(ZIG_TARGET.format(machine=machine))
    other = "" if machine != THIS_MACHINE else "install g++ or clang, or "
    raise BuildError(f"no C++ compiler for {machine}: {other}`pip install ziglang`")


def zig(target: str) -> tuple[str, ...]:
    """The compiler of the package ziglang, for a machine, a system and its C library."""
    return (sys.executable, "-m", "ziglang", "c++", "-target", target)


def has_compiler(machine: str = THIS_MACHINE) -> bool:
    """Whether the library can be built now."""
    try:
        find_compiler(machine)
    except BuildError:
        return False
    return True


def wheel_platform(machine: str = THIS_MACHINE) -> str:
    """The platform of a wheel's name: with ziglang the glibc is known that the library needs."""
    kind = "manylinux_2_28" if "ziglang" in find_compiler(machine) else "linux"
    return f"{kind}_{machine}"


def build(library: Path = LIBRARY, extra: Sequence[str] = (), machine: str = THIS_MACHINE) -> Path:
    """Compiles all sources for an architecture and links them; the library is replaced at once.

    Args:
        library: the file to write.
        extra: more flags of the compiler.
        machine: that the library is for.

    Raises:
        BuildError: no compiler, or what it said.
    """
    compiler = find_compiler(machine)
    with tempfile.TemporaryDirectory(dir=library.parent) as directory:
        objects = compile_sources(compiler, machine, Path(directory), extra)
        linked = str(Path(directory, library.name))
        _run([*compiler, *LINK, *extra, *map(str, objects), "-o", linked, "-lm"])
        os.replace(linked, library)
    return library


def compile_sources(
    compiler: Sequence[str], machine: str, directory: Path, extra: Sequence[str] = ()
) -> list[Path]:
    """Object files of all sources that a machine has, made on all cores.

    Raises:
        BuildError: what the compiler said.
    """
    sources = [source for source in SOURCES if machine in source.machines]
    objects = [(directory / source.name).with_suffix(".o") for source in sources]
    commands = [
        [*compiler, *FLAGS, *source.options(compiler), *extra,
         "-c", str(NATIVE / source.name), "-o", str(made)]
        for source, made in zip(sources, objects, strict=True)
    ]  # fmt: skip
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(_run, commands))
    return objects


def _run(command: list[str]) -> None:
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode:
        raise BuildError(f"{' '.join(command)}\n{ran.stderr}")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description="Builds the library of kernels.")
    parser.add_argument("-o", dest="library", type=Path, default=LIBRARY, help="file to write")
    parser.add_argument("--sanitize", action="store_true", help="with ASan and UBSan, for tests")
    parser.add_argument("--machine", choices=MACHINES, default=THIS_MACHINE, help="that it is for")
    arguments = parser.parse_args()
    if arguments.machine != THIS_MACHINE and arguments.library == LIBRARY:
        parser.error("the library of another machine goes elsewhere: give -o FILE")
    try:
        flags = SANITIZERS if arguments.sanitize else ()
        print(build(arguments.library, flags, arguments.machine))
    except BuildError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
