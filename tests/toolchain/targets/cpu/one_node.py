"""A session over one of our operators."""

from collections.abc import Sequence

import onnx_ir as ir

from runtime.kernels.layout import DOMAIN
from runtime.kernels.library import Kernels
from runtime.sessions.onnx.quiet_ort import FATAL_ONLY, ort


def open_node(
    kernels: Kernels,
    inputs: Sequence[ir.Value],
    node: ir.Node,
    constants: Sequence[ir.Value] = (),
    threads: int = 1,
) -> ort.InferenceSession:
    """The inputs are those of the graph, the constants stand in it."""
    graph = ir.Graph(
        inputs, node.outputs, nodes=[node], initializers=constants,
        opset_imports={"": 17, DOMAIN: 1}, name="one",
    )  # fmt: skip
    options = ort.SessionOptions()
    options.log_severity_level = FATAL_ONLY
    options.intra_op_num_threads = threads
    options.register_custom_ops_library(str(kernels.path))
    proto = ir.to_proto(ir.Model(graph, ir_version=8)).SerializeToString()
    return ort.InferenceSession(proto, options)
