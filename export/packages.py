"""Torch programs -> packages of machine code, by AOTInductor, which starts a C++ compiler.

A package runs on CPUs or GPUs like those here: its code is for all that these can do.
"""

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch._inductor
from torch._inductor.cpp_builder import get_cpp_compiler
from torch._inductor.exc import CppCompileError, InvalidCxxCompiler
from torch._inductor.utils import fresh_cache
from torch.export.passes import move_to_device_pass
from torch.utils.cpp_extension import CUDA_HOME

from export.errors import CompilerError

__all__ = ["package_compiler"]

CompilePackage = Callable[[torch.export.ExportedProgram, Path], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """What compiles programs for a device.

    check: refuses a machine that cannot.
    options: of Inductor.
    facts: what a session compares before it runs machine code.
    """

    check: Callable[[], None]
    options: Mapping[str, object]
    facts: Callable[[], dict[str, str]]


def _check_gpu() -> None:
    if not torch.cuda.is_available():
        raise CompilerError(
            "programs for CUDA are compiled on a machine with the GPU that runs them",
            got=f"torch {torch.__version__}, which sees none",
            allowed="torch's CUDA build, and NVIDIA's driver",
            next_step="install both, or compile there",
        )
    if CUDA_HOME is None:
        raise CompilerError(
            "programs for CUDA are compiled with CUDA's headers, and there are none",
            got="no CUDA_HOME, no nvcc and no /usr/local/cuda",
            next_step="install CUDA's toolkit, or set CUDA_HOME to where it is",
        )


def _gpu() -> str:
    major, minor = torch.cuda.get_device_capability()
    return f"sm_{major}{minor}"


DEVICES = {
    "cpu": Device(
        check=lambda: None,
        options={"cpp.dynamic_threads": True},  # the threads of the session, not of this host
        facts=lambda: {"cpu": torch.backends.cpu.get_cpu_capability()},
    ),
    "cuda": Device(
        check=_check_gpu,
        # A product of one row becomes a sum, which reads int8 levels as they are, and its tiles are
        # searched for: the way of gpt-fast (github.com/meta-pytorch/gpt-fast).
        options={
            "coordinate_descent_tuning": True,
            "max_autotune_gemm": True,
            "max_autotune_gemm_backends": "ATEN,TRITON",
            "triton.unique_kernel_names": True,
        },
        facts=lambda: {"gpu": _gpu()},
    ),
}


@contextmanager
def package_compiler(scratch: Path, device_name: str = "cpu") -> Iterator[CompilePackage]:
    """Gives a function that compiles a program and writes it to a .pt2 file.

    Args:
        scratch: an existing directory for what is needed on the way.
        device_name: cpu or cuda: those of this machine.

    Raises:
        CompilerError: no C++ compiler or no such device, or a compiler fails.
    """
    device = DEVICES[device_name]
    device.check()
    try:
        get_cpp_compiler()
        for name in ("torch._inductor.utils", "torch._inductor.debug"):
            logging.getLogger(name).setLevel(logging.ERROR)  # they tell of scratch files
        with fresh_cache(dir=str(scratch)), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of its own modules
            yield lambda program, path: _compile(program, path, device_name)
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


def _compile(program: torch.export.ExportedProgram, path: Path, device_name: str) -> None:
    device = DEVICES[device_name]
    facts = {"torch": torch.__version__, **device.facts()}
    torch._inductor.aoti_compile_and_package(
        move_to_device_pass(program, device_name),
        package_path=str(path),
        inductor_configs={**device.options, "aot_inductor.metadata": facts},
    )
