"""ONNX Runtime on CPU: weight-only quantisation and attention that updates its cache in place."""

from toolchain.targets.base import Lazy, Target
from toolchain.targets.cpu.check import check_for_cpu
from toolchain.targets.cpu.footprint import CPU_FOOTPRINT
from toolchain.targets.cpu.kernels import settle_kernels

__all__ = ["CPU"]

CPU = Target(
    backend="onnxruntime",
    weights=("int4", "int8", "fp32"),
    kv_caches=("float", "int8"),
    block_sizes=(128, 16, 32, 64, 256),  # of MatMulNBits
    check=check_for_cpu,
    compiler=Lazy("toolchain.targets.cpu.lower", "compile_for_cpu"),
    passes=Lazy("toolchain.targets.cpu.passes", "PASSES"),
    footprint=CPU_FOOTPRINT,
    calibrates=("int4", "int8"),
    kernels=("auto", "own", "onnxruntime"),
    settle=settle_kernels,
)
