"""What the kernels of ONNX Runtime cannot do, refused before any work."""

from collections.abc import Sequence

from runtime.bundle.manifest import GraphSpec, ModelConfig
from toolchain.errors import TargetError

__all__ = ["check_for_cpu"]

HEAD_DIM_MULTIPLE = 16  # of com.microsoft.GroupQueryAttention with do_rotary


def check_for_cpu(config: ModelConfig, specs: Sequence[GraphSpec]) -> None:
    """See Target.check."""
    _check_head_dim(config)
    for spec in specs:
        _check_kernel(spec)


def _check_head_dim(config: ModelConfig) -> None:
    if config.head_dim % HEAD_DIM_MULTIPLE:
        raise TargetError(
            "ONNX Runtime's attention cannot rotate heads of this size",
            got=f"head_dim {config.head_dim}",
            allowed=f"multiples of {HEAD_DIM_MULTIPLE}",
        )


def _check_kernel(spec: GraphSpec) -> None:
    if spec.batch_size > 1 and spec.seq_len > 1:
        raise TargetError(
            f"graph {spec.name}: ONNX Runtime appends several rows to one sequence only",
            got=f"batch_size {spec.batch_size}, seq_len {spec.seq_len}",
            next_step="set batch_size or seq_len to 1 in the profile",
        )
