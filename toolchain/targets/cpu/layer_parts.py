"""Runs the layers of a lowered graph one at a time, as far as their weights are made."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from runtime.bundle import tensor_names as names
from runtime.bundle.manifest import ModelConfig
from runtime.kernels.layout import DOMAIN
from runtime.sessions.onnx.inplace_cache import SEQLENS_K, TOTAL_SEQUENCE_LENGTH
from runtime.sessions.onnx.own_kernels import register_kernels
from runtime.sessions.onnx.quiet_ort import ort

__all__ = ["Arrays", "LayerParts", "Part"]

Arrays = dict[str, NDArray[np.generic]]
# Takes what goes into a layer: token ids (1, S) of the first, else the residual stream (1, S, E).
Part = Callable[[NDArray[np.generic]], Arrays]

# Where ONNX Runtime looks for the weights of a graph that is not a file.
FOLDER_OPTION = "session.model_external_initializers_file_folder_path"


class LayerParts:
    """The layers of a graph, on whole texts from their first token on.

    Args:
        model: the lowered graph with a float32 cache and free dimensions.
        config: the model.
        graphs: the directory that its weights are in, as far as they are made.
    """

    def __init__(self, model: ir.Model, config: ModelConfig, graphs: Path) -> None:
        self.model, self._config, self._graphs = model, config, graphs

    def part(self, layer: int, wanted: Sequence[str], num_threads: int = 0) -> Part:
        """What gives some values of a layer, computed with so many threads; 0 is every core."""
        source = names.hidden_name(layer - 1) if layer else names.INPUT_IDS
        past = (names.past_key(layer), names.past_value(layer))
        given = [source, *past, SEQLENS_K, TOTAL_SEQUENCE_LENGTH]
        session = self._open(given, wanted, num_threads)

        def run(stream: NDArray[np.generic]) -> Arrays:
            num_tokens = stream.shape[1]
            heads, size = self._config.num_key_value_heads, self._config.head_dim
            feeds: Arrays = {
                source: stream,
                **dict.fromkeys(past, np.zeros((1, heads, num_tokens, size), np.float32)),
                SEQLENS_K: np.array([num_tokens - 1], np.int32),
                TOTAL_SEQUENCE_LENGTH: np.array([num_tokens], np.int32),
            }
            return dict(zip(wanted, session.run(wanted, feeds), strict=True))

        return run

    def _open(
        self, given: Sequence[str], wanted: Sequence[str], num_threads: int
    ) -> ort.InferenceSession:
        """What lies between some values, with the weights that this part has."""
        graph = ir.convenience.extract(self.model.graph, given, wanted)
        part = ir.Model(graph, ir_version=self.model.ir_version)
        for value in (*part.graph.inputs, *part.graph.outputs):
            value.shape = None  # a cache that is only as long as the text
        options = ort.SessionOptions()
        options.intra_op_num_threads = num_threads
        options.add_session_config_entry(FOLDER_OPTION, str(self._graphs))
        if DOMAIN in self.model.opset_imports:
            register_kernels(options)
            part.opset_imports[DOMAIN] = 1
        return ort.InferenceSession(ir.to_proto(part).SerializeToString(), options)
