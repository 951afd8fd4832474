"""Portable graphs of any shape with random weights, and what ONNX Runtime computes of them."""

import math
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray

from export.parameters import parameter_shape, parameters
from runtime.bundle.manifest import GraphSpec, ModelConfig
from runtime.sessions.attention_mask import attention_mask
from tests.emulator.npu_ops import expand_npu_ops

__all__ = ["Arrays", "opened", "random_feeds", "run_model", "write_weights"]

Arrays = dict[str, NDArray[np.generic]]


def write_weights(config: ModelConfig, directory: Path) -> None:
    """Weights that keep the residual stream near 1."""
    rng = np.random.default_rng(0)
    (directory / "weights").mkdir(parents=True)
    for name in parameters(config):
        shape = parameter_shape(config, name)
        scale = 1.0 if len(shape) == 1 else 1 / math.sqrt(shape[-1])
        array = (scale * rng.standard_normal(shape) + (len(shape) == 1)).astype(np.float16)
        (directory / "weights" / name).write_bytes(array.tobytes())


def random_feeds(config: ModelConfig, spec: GraphSpec, start: int) -> Arrays:
    """Random ids after `start` random cached rows; what lies behind them is large and masked."""
    rng, rows = np.random.default_rng(1), spec.batch_size * spec.seq_len
    shape = (spec.batch_size, config.num_key_value_heads, spec.cache_len, config.head_dim)
    feeds: Arrays = {
        "input_ids": rng.integers(3, config.vocab_size, (spec.batch_size, spec.seq_len)),
        "position_ids": np.tile(start + np.arange(spec.seq_len), (spec.batch_size, 1)),
        "attention_mask": attention_mask(spec, np.full(spec.batch_size, start)),
    }
    if spec.seq_len > 1 and spec.phase != "score":
        feeds["logit_rows"] = np.arange(spec.seq_len - 1, rows, spec.seq_len)
    for i in range(config.num_hidden_layers if spec.cache_len else 0):
        for name in (f"past_key.{i}", f"past_value.{i}"):
            cache = rng.standard_normal(shape)
            cache[:, :, start:] *= 10
            feeds[name] = cache.astype(np.float16)
    return feeds


def opened(path: Path) -> ort.InferenceSession:
    """Unoptimised: else float16 sums stay float32 from node to node, and how far is a matter of
    the graph."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(path, options)


def run_model(model: ir.Model, feeds: Arrays, directory: Path) -> Arrays:
    """Results by name; the weights lie in the directory."""
    path = directory / "model.onnx"
    path.write_bytes(expand_npu_ops(ir.to_proto(model)).SerializeToString())
    session = opened(path)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))
