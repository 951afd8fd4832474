"""Lowers the portable graphs through the ordered passes to one that computes them all."""

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass, TopologicalSortPass

from profiles import Profile
from runtime.bundle import GRAPHS_DIR, WEIGHTS_DIR, Bundle
from runtime.bundle_writer import BundleWriter, WeightJob
from runtime.manifest import Graph, GraphSpec, Manifest, TensorSpec
from runtime.sessions.cpu import cache_rows
from toolchain.targets.cpu.float32 import Float32
from toolchain.targets.cpu.free_dimensions import (
    BATCH_SIZE,
    NUM_LOGIT_ROWS,
    SEQ_LEN,
    FreeDimensions,
)
from toolchain.targets.cpu.fuse_norms import FuseNorms
from toolchain.targets.cpu.grouped_query_attention import GroupedQueryAttention
from toolchain.targets.cpu.pack_qkv import PackQkv
from toolchain.targets.cpu.quantize_weights import BITS, QuantizeWeights
from toolchain.targets.cpu.streamed import StreamedTensor, row_blocks, streamed

__all__ = ["compile_for_cpu", "cpu_passes"]

StoredTensor = ir.ExternalTensor | StreamedTensor
DECODER = f"{GRAPHS_DIR}/decoder.onnx"


def cpu_passes(manifest: Manifest, weights: str, block_size: int) -> list[ir.passes.InPlacePass]:
    """The rewrites in the order in which they run."""
    quantized: list[ir.passes.InPlacePass] = []
    if weights in BITS:
        bits, head_bits = BITS[weights]
        quantized = [QuantizeWeights(bits, block_size, head_bits)]
    return [
        *quantized,
        Float32(),
        GroupedQueryAttention(manifest.model, cache_rows(manifest.cache_len)),
        PackQkv(),
        FreeDimensions(),
        FuseNorms(),
        RemoveUnusedNodesPass(),
        TopologicalSortPass(),
    ]


def compile_for_cpu(
    bundle: Bundle, profile: Profile, weights: str, writer: BundleWriter
) -> tuple[Graph, ...]:
    """See toolchain.compiler.compile_bundle."""
    manifest = bundle.manifest

    # 1. Any graph of the family, since its dimensions are freed; its weights are only promised.
    writer.report("lowering")
    model = ir.load(bundle.file(manifest.graphs[0].path))
    ir.passes.Sequential(*cpu_passes(manifest, weights, profile.block_size))(model)
    tensors = _promise_weights(model)
    writer.write(DECODER, [ir.to_proto(model).SerializeToString()])

    # 2. Each promised weight is made.
    jobs = {job.names: job for job in map(_job, tensors.values())}
    num_bytes = sum(tensor.nbytes for tensor in tensors.values())
    writer.require(num_bytes)
    writer.report(f"weights: {len(tensors)} tensors")
    writer.report.expect(num_bytes)
    writer.start_weights(list(jobs.values()))
    writer.wait()
    return tuple(_describe(graph.spec, model) for graph in manifest.graphs)


def _promise_weights(model: ir.Model) -> dict[str, StoredTensor]:
    """Points every large initializer at the file that it will have; returns what was there."""
    promised: dict[str, StoredTensor] = {}
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        if isinstance(tensor, ir.ExternalTensor | StreamedTensor):
            promised[name] = tensor
            value.const_value = ir.ExternalTensor(
                f"{WEIGHTS_DIR}/{name}",
                0,
                tensor.nbytes,
                tensor.dtype,
                shape=tensor.shape,
                name=name,
            )
    return promised


def _job(tensor: StoredTensor) -> WeightJob:
    """What makes a tensor; one that no pass has touched is copied."""
    if isinstance(tensor, StreamedTensor):
        return tensor.job
    [copied] = streamed(
        {tensor.name: (tensor.dtype, tensor.shape.numpy())},
        lambda: ((rows,) for rows in row_blocks(tensor)),
    )
    return copied.job


def _describe(spec: GraphSpec, model: ir.Model) -> Graph:
    """The graph in the sizes of one member of the family."""
    num_rows = spec.batch_size * (spec.seq_len if spec.phase == "score" else 1)
    sizes = {BATCH_SIZE: spec.batch_size, SEQ_LEN: spec.seq_len, NUM_LOGIT_ROWS: num_rows}
    return Graph(
        spec=spec,
        path=DECODER,
        inputs=tuple(_tensor_spec(value, sizes) for value in model.graph.inputs),
        outputs=tuple(_tensor_spec(value, sizes) for value in model.graph.outputs),
    )


def _tensor_spec(value: ir.Value, sizes: dict[str, int]) -> TensorSpec:
    assert value.dtype is not None, "every graph input and output is typed"
    assert value.shape is not None, "every graph input and output has a shape"
    shape = [dim if isinstance(dim, int) else sizes[str(dim.value)] for dim in value.shape]
    fields = {"name": value.name, "dtype": value.dtype.numpy().name, "shape": tuple(shape)}
    return TensorSpec.model_validate(fields)
