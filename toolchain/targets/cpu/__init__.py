"""ONNX Runtime on CPU: weight-only quantisation and attention that updates its cache in place."""

from toolchain.targets.base import Target
from toolchain.targets.cpu.check import check_for_cpu
from toolchain.targets.cpu.footprint import CPU_FOOTPRINT
from toolchain.targets.cpu.lower import compile_for_cpu

__all__ = ["CPU"]

CPU = Target(
    weights=("int4", "int8", "fp32"),
    kv_caches=("float", "int8"),
    block_sizes=(16, 32, 64, 128, 256),  # of MatMulNBits
    check=check_for_cpu,
    compile=compile_for_cpu,
    footprint=CPU_FOOTPRINT,
)
