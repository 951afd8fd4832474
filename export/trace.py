"""(ModelConfig, GraphSpec) -> portable ONNX graph.

No weight is in memory while the graph is built: each becomes a reference to a file that the
bundle writer fills later.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import onnx_ir as ir
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from export.decoder import Decoder
from export.graphs import FREQUENCIES, chooses_rows, graph_inputs, graph_outputs
from export.passes import portable_passes, run_passes
from export.passes.repeat_layers import TRACED_LAYERS
from export.past import GivenRows
from export.positions import inverse_frequencies
from runtime.bundle.manifest import GraphSpec, ModelConfig, TensorSpec
from runtime.bundle.reader import WEIGHTS_DIR

__all__ = ["TRACED_OPSET", "trace"]

TRACED_OPSET = 18  # the lowest that torch.onnx emits; a pass lowers it to 17
BYTES_PER_WEIGHT = 2  # float16


def trace(config: ModelConfig, spec: GraphSpec) -> ir.Model:
    """Traces the decoder in the shapes of one graph.

    Returns:
        A model whose inputs and outputs are those of export/graphs.py and whose weights are
        float16 external tensors at weights/{parameter}.

    Raises:
        TraceError: torch writes another graph than the passes know.
    """
    num_layers = min(config.num_hidden_layers, TRACED_LAYERS)  # the rest are stamped out
    traced = config.model_copy(update={"num_hidden_layers": num_layers})
    program = _traced(traced, spec)
    model = _convert(program, graph_inputs(traced, spec), graph_outputs(traced, spec))
    _externalise_weights(model, config)
    run_passes(model, portable_passes(config))
    return model


class _Flat(torch.nn.Module):
    """The decoder with its inputs and outputs in the order of export/graphs.py."""

    def __init__(self, decoder: Decoder, spec: GraphSpec) -> None:
        super().__init__()
        self.decoder = decoder
        self.spec = spec

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        ids, positions, mask, *rest = tensors
        logit_rows = rest.pop(0) if chooses_rows(self.spec) else None
        past = list(map(GivenRows, rest[::2], rest[1::2])) or None
        logits, keys, values = self.decoder(ids, positions, mask, past, logit_rows)
        if self.spec.phase != "score" and logit_rows is None:
            logits = logits[:, 0]  # one row is all there is
        new_rows = [tensor for pair in zip(keys, values, strict=True) for tensor in pair]
        return (logits, *new_rows)


def _traced(config: ModelConfig, spec: GraphSpec) -> torch.export.ExportedProgram:
    """The decoder in float16 with its float32 islands; its parameters hold no data."""
    with FakeTensorMode(), _default_dtype(torch.float16):
        flat = _Flat(Decoder(config).eval(), spec)
        inputs = tuple(map(_empty, graph_inputs(config, spec)))
        return torch.export.export(flat, inputs, strict=False)


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


def _convert(
    program: torch.export.ExportedProgram,
    inputs: tuple[TensorSpec, ...],
    outputs: tuple[TensorSpec, ...],
) -> ir.Model:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns of torchvision's absence
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # raised inside torch's own copy of itself
        converted = torch.onnx.export(
            program,
            dynamo=True,
            optimize=False,
            verbose=False,
            opset_version=TRACED_OPSET,
            input_names=[tensor.name for tensor in inputs],
            output_names=[tensor.name for tensor in outputs],
        )
    assert converted is not None, "dynamo=True returns a program"
    return converted.model


def _externalise_weights(model: ir.Model, config: ModelConfig) -> None:
    """Points every parameter at its file; the rotary frequencies are small and stay inside."""
    prefix = "decoder."
    for value in list(model.graph.initializers.values()):
        name = (value.name or "").removeprefix(prefix)
        if config.tie_word_embeddings and name == "lm_head.weight":
            name = "embed_tokens.weight"  # torch names a shared parameter for its last owner
        if name == FREQUENCIES:
            value.const_value = ir.Tensor(inverse_frequencies(config).numpy(), name=name)
            value.name = name
        elif name != value.name:
            assert value.shape is not None, "torch.onnx gives every initializer its shape"
            shape = ir.Shape(value.shape.numpy())
            value.const_value = ir.ExternalTensor(
                f"{WEIGHTS_DIR}/{name}",
                0,
                BYTES_PER_WEIGHT * int(torch.Size(shape.numpy()).numel()),
                ir.DataType.FLOAT16,
                shape=shape,
                name=name,
            )
            value.name = name
