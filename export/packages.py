"""Torch programs -> packages of machine code, by AOTInductor, which starts a C++ compiler.

A package runs on CPUs like this one: its code is for all that this one can do.
"""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch._inductor
from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.exc import CppCompileError, InvalidCxxCompiler
from torch._inductor.utils import fresh_cache

from export.errors import CompilerError

__all__ = ["package_compiler"]

CompilePackage = Callable[[torch.export.ExportedProgram, Path], None]
OPTIONS: dict[str, object] = {
    "cpp.dynamic_threads": True,  # the threads of the session, not of this host
}


@contextmanager
def package_compiler(scratch: Path) -> Iterator[CompilePackage]:
    """Gives a function that compiles a program for this CPU and writes it to a .pt2 file.

    Args:
        scratch: an existing directory for what is needed on the way.

    Raises:
        CompilerError: no C++ compiler, or it fails.
    """
    try:
        get_cpp_compiler()
        for name in ("torch._inductor.utils", "torch._inductor.debug"):
            logging.getLogger(name).setLevel(logging.ERROR)  # they tell of scratch files
        with fresh_cache(dir=str(scratch)), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of its own modules
            yield _compile
    except InvalidCxxCompiler as error:
        raise CompilerError(
            "torch programs are compiled with a C++ compiler, and there is none",
            got=f"CXX is {torch._inductor.config.cpp.cxx[1]}",
            next_step="install g++, or name another one in CXX",
        ) from error
    except CppCompileError as error:
        lines = error.output.splitlines()
        raise CompilerError(
            "the C++ compiler failed",
            got=next((line for line in lines if "error" in line), " ".join(lines[-1:])),
            next_step="install g++ 11 or newer with its headers, or name another one in CXX",
        ) from error


def _compile(program: torch.export.ExportedProgram, path: Path) -> None:
    options = OPTIONS | {
        # What the session compares before it runs machine code.
        "aot_inductor.metadata": {
            "torch": torch.__version__,
            "cpu": torch.backends.cpu.get_cpu_capability(),
        }
    }
    torch._inductor.aoti_compile_and_package(
        program, package_path=str(path), inductor_configs=options
    )
