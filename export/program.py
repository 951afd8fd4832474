"""(ModelConfig, GraphSpec) -> torch program: the decoder in the shapes of one graph.

Traced on fake tensors, so no weight is in memory. A program is where two roads part: trace.py
makes ONNX of it, and a torch target compiles it as it is.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from export.decoder import Decoder
from export.graphs import chooses_rows, graph_inputs
from runtime.bundle.manifest import GraphSpec, ModelConfig, TensorSpec

__all__ = ["trace_program"]


def trace_program(config: ModelConfig, spec: GraphSpec) -> torch.export.ExportedProgram:
    """Traces the decoder, in float16 with its float32 islands.

    Returns:
        A program whose inputs and outputs are those of export/graphs.py, in their order; its
        parameters are named decoder.{parameter} and hold no data.
    """
    with FakeTensorMode(), _default_dtype(torch.float16):
        flat = _Flat(Decoder(config).eval(), spec)
        inputs = tuple(map(_empty, graph_inputs(config, spec)))
        return torch.export.export(flat, inputs, strict=False)


class _Flat(torch.nn.Module):
    """The decoder with its inputs and outputs in the order of export/graphs.py."""

    def __init__(self, decoder: Decoder, spec: GraphSpec) -> None:
        super().__init__()
        self.decoder = decoder
        self.spec = spec

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        ids, positions, mask, *rest = tensors
        logit_rows = rest.pop(0) if chooses_rows(self.spec) else None
        past = list(zip(rest[::2], rest[1::2], strict=True)) or None
        logits, keys, values = self.decoder(ids, positions, mask, past, logit_rows)
        if self.spec.phase != "score" and logit_rows is None:
            logits = logits[:, 0]  # one row is all there is
        new_rows = [tensor for pair in zip(keys, values, strict=True) for tensor in pair]
        return (logits, *new_rows)


def _empty(tensor: TensorSpec) -> Tensor:
    return torch.zeros(tensor.shape, dtype=getattr(torch, tensor.dtype))


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Makes new parameters of this type inside the block."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
