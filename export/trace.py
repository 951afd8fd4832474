"""(ModelConfig, GraphSpec) -> portable ONNX graph, made of a torch program.

No weight is in memory while the graph is built: each becomes a reference to a file that the
bundle writer fills later.
"""

import logging
import warnings

import onnx_ir as ir
import torch

from export.graphs import graph_inputs, graph_outputs
from export.layers import RotaryEmbedding
from export.passes import portable_passes, run_passes
from export.passes.repeat_layers import TRACED_LAYERS
from export.program import trace_program
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
    program = trace_program(traced, spec)
    model = _convert(program, graph_inputs(traced, spec), graph_outputs(traced, spec))
    _externalise_weights(model, config)
    run_passes(model, portable_passes(config))
    return model


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
    prefix, frequencies = "decoder.", "rotary_emb.inverse_frequencies"
    for value in list(model.graph.initializers.values()):
        name = (value.name or "").removeprefix(prefix)
        if config.tie_word_embeddings and name == "lm_head.weight":
            name = "embed_tokens.weight"  # torch names a shared parameter for its last owner
        if name == frequencies:
            buffer = RotaryEmbedding(config).get_buffer("inverse_frequencies")
            value.const_value = ir.Tensor(buffer.numpy(), name=name)
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
