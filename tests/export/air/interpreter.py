"""Runs an .air in torch on a CPU: the operators of GE that a decoder becomes, from their documents.

It knows nothing of torchair but the classes of the messages (ge_ir_by_protoc_3_19_pb2.py of the
wheel, which needs protobuf alone), and nothing of the converters.
"""

import importlib.util
from collections.abc import Callable, Mapping
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

MESSAGES = "torch_npu/dynamo/torchair/_ge_concrete_graph/ge_ir_by_protoc_3_19_pb2.py"
# ge::DataType of an attribute; ge.proto.DataType of a tensor.
ATTRIBUTE_TYPES = {0: torch.float32, 1: torch.float16, 2: torch.int8, 3: torch.int32}
ATTRIBUTE_TYPES |= {9: torch.int64, 12: torch.bool}
PROTO_TYPES = {1: torch.float32, 2: torch.float16, 3: torch.int8, 7: torch.int32, 8: torch.int64}
PROTO_TYPES |= {11: torch.bool}
Results = list[Tensor]


@cache
def messages(wheel: Path) -> Any:
    spec = importlib.util.spec_from_file_location("ge_ir", wheel / MESSAGES)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def read_graph(wheel: Path, file: Path) -> Any:
    model = messages(wheel).ModelDef()
    model.ParseFromString(file.read_bytes())
    [graph] = model.graph
    return graph


def constant(node: Any) -> Tensor:
    value = node.attr["value"].t
    dtype, shape = PROTO_TYPES[value.desc.dtype], list(value.desc.shape.dim)
    return torch.frombuffer(bytearray(value.data), dtype=dtype).reshape(shape)


def file_constant(node: Any, folder: Path) -> Tensor:
    shape, dtype = list(node.attr["shape"].list.i), ATTRIBUTE_TYPES[node.attr["dtype"].dt]
    file = folder / node.attr["file_path"].s.decode()
    assert file.stat().st_size == prod(shape) * dtype.itemsize
    return torch.from_file(str(file), size=prod(shape), dtype=dtype).reshape(shape)


def rms_norm(x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
    return functional.rms_norm(x.float(), weight.shape, weight.float(), epsilon).to(x.dtype)


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    left, right = x.chunk(2, -1)
    return x * cos + torch.cat([-right, left], -1) * sin


def attention(node: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, lengths: Tensor) -> Tensor:
    """FusedInferAttentionScore in BSND; rows beyond a length are not looked at, nor their NaN."""
    attr = node.attr
    assert attr["input_layout"].s == b"BSND"
    assert attr["num_heads"].i == q.shape[2]
    assert attr["num_key_value_heads"].i == k.shape[2]
    assert attr["sparse_mode"].i == (0 if mask is None else 3)
    assert (mask is None) == (q.shape[1] == 1)
    outputs = []
    for one, keys, values, length in zip(q, k, v, lengths.tolist(), strict=True):
        seq_len, group = len(one), q.shape[2] // k.shape[2]
        keys, values = (x[:length].repeat_interleave(group, 1).float() for x in (keys, values))
        scores = torch.einsum("shd,thd->hst", one.float(), keys) * attr["scale"].f
        hidden = torch.ones(seq_len, length).triu(length - seq_len + 1).bool()
        weights = scores.masked_fill(hidden, -torch.inf).softmax(-1)
        outputs.append(torch.einsum("hst,thd->shd", weights, values))
    return torch.stack(outputs).to(q.dtype)


def scatter(node: Any, cache: Tensor, start: Tensor, rows: Tensor) -> Tensor:
    assert node.attr["reduce"].s == b"update"
    assert node.attr["axis"].i == 1
    for sequence, first, new in zip(cache, start.tolist(), rows, strict=True):
        sequence[first : first + len(new)] = new
    return cache


def product(node: Any, x: Tensor, weight: Tensor) -> Tensor:
    assert not node.attr["transpose_x1"].b
    assert x.dtype == weight.dtype == torch.float16
    return (x.float() @ (weight.T if node.attr["transpose_x2"].b else weight).float()).half()


def quantised_product(node: Any, x: Tensor, levels: Tensor, scales: Tensor) -> Tensor:
    assert node.attr["transpose_weight"].b
    group = node.attr["antiquant_group_size"].i or levels.shape[1]
    spread = scales.reshape(len(levels), -1).repeat_interleave(group, 1)[:, : levels.shape[1]]
    return (x.float() @ (levels.float() * spread.float()).T).half()


def split(sizes: Tensor, axis: Tensor, x: Tensor) -> Results:
    return list(torch.split_with_sizes(x, sizes.tolist(), int(axis)))


def add_rms_norm(node: Any, x: Tensor, y: Tensor, weight: Tensor) -> Results:
    added = x + y
    return [rms_norm(added, weight, node.attr["epsilon"].f), torch.empty(0), added]


def swiglu(x: Tensor) -> Tensor:
    gate, up = x.chunk(2, -1)
    return functional.silu(gate.float()).mul(up.float()).to(x.dtype)


def unsqueeze(node: Any, x: Tensor) -> Tensor:
    for axis in node.attr["axes"].list.i:
        x = x.unsqueeze(axis)
    return x


OPERATORS: dict[str, Callable[..., Tensor | Results]] = {
    "Add": lambda _, x, y: x + y,
    "AddRmsNorm": add_rms_norm,
    "ApplyRotaryPosEmb": lambda _, q, k, cos, sin: [rotated(x, cos, sin) for x in (q, k)],
    "Cast": lambda node, x: x.to(ATTRIBUTE_TYPES[node.attr["dst_type"].i]),
    "ConcatV2": lambda node, *x: torch.cat(x[:-1], int(x[-1])),
    "Cos": lambda _, x: x.cos(),
    "FusedInferAttentionScore": lambda node, q, k, v, _, mask, queries, lengths, *rest: [
        attention(node, q, k, v, mask, lengths)
    ],
    "GatherV2": lambda _, x, rows, axis: x[(slice(None),) * int(axis) + (rows,)],
    "MatMul": lambda node, x, weight, bias: product(node, x, weight),
    "Neg": lambda _, x: -x,
    "Mul": lambda _, x, y: x * y,
    "Range": lambda _, start, end, step: torch.arange(int(start), int(end), int(step)),
    "Reshape": lambda _, x, shape: x.reshape(shape.tolist()),
    "RmsNorm": lambda node, x, weight: [rms_norm(x, weight, node.attr["epsilon"].f)],
    "RotaryMul": lambda _, x, cos, sin: rotated(x, cos, sin),
    "Scatter": scatter,
    "Sin": lambda _, x: x.sin(),
    "SplitV": lambda _, x, sizes, axis: split(sizes, axis, x),
    "Squeeze": lambda node, x: x.squeeze(tuple(node.attr["axis"].list.i)),
    "SwiGlu": lambda _, x: swiglu(x),
    "Unsqueeze": unsqueeze,
    "WeightQuantBatchMatmulV2": lambda node, x, levels, scales, *rest: quantised_product(
        node, x, levels, scales
    ),
}


def run(graph: Any, inputs: Mapping[str, Tensor], folder: Path) -> Tensor:
    """The logits; caches among the inputs are written.

    Args:
        graph: of an .air.
        inputs: by the names of the nodes that take them.
        folder: that the paths of weights are relative to.
    """
    values: dict[str, Tensor | None] = {"": None}
    for node in graph.op:
        given = [values[name] for name in node.input if not name.endswith(":-1")]
        if node.type in ("Data", "RefData"):
            results: Tensor | Results = inputs[node.name]
        elif node.type == "Const":
            results = constant(node)
        elif node.type == "FileConstant":
            results = file_constant(node, folder)
        elif node.type == "NetOutput":
            [logits] = given
            assert logits is not None
            return logits
        else:
            results = OPERATORS[node.type](node, *given)
        listed = [results] if isinstance(results, Tensor) else results
        values |= {f"{node.name}:{i}": result for i, result in enumerate(listed)}
    raise AssertionError("a graph has a NetOutput")
