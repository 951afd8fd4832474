"""Lowers the portable graphs through the ordered passes to one that computes them all."""

from collections.abc import Sequence

import onnx_ir as ir

from profiles import Profile
from runtime.bundle.cpu_costs import cost_on_cpu
from runtime.bundle.manifest import Backend, Graph, GraphSpec
from runtime.bundle.reader import GRAPHS_DIR, Bundle
from runtime.bundle.writer import BundleWriter
from runtime.kernels.layout import KERNELS_VERSION, MAX_HEAD_DIM
from toolchain.targets.base import Compiled
from toolchain.targets.cpu.calibrate import calibrate
from toolchain.targets.cpu.calibrated_weights import CalibratedWeights
from toolchain.targets.cpu.calibration import read_calibration
from toolchain.targets.cpu.free_dimensions import BATCH_SIZE, NUM_LOGIT_ROWS, SEQ_LEN
from toolchain.targets.cpu.layer_parts import LayerParts
from toolchain.targets.cpu.own_attention import OwnAttention
from toolchain.targets.cpu.passes import FREE_DIMENSIONS, OWN_KERNELS, cpu_passes
from toolchain.targets.cpu.quantize_cache import QuantizeCache
from toolchain.targets.cpu.quantize_weights import to_nearest
from toolchain.targets.cpu.stored_levels import stored_levels
from toolchain.targets.pass_list import named, run_passes
from toolchain.targets.weights import StoredTensor, promise_weights, tensor_spec, weight_job

__all__ = ["compile_for_cpu"]

DECODER = f"{GRAPHS_DIR}/decoder.onnx"


def compile_for_cpu(
    bundle: Bundle, profile: Profile, without: Sequence[str], writer: BundleWriter
) -> Compiled:
    """See toolchain.compiler.compile_bundle."""
    manifest = bundle.manifest
    calibration = read_calibration(profile.calibrate, bundle) if profile.calibrate else None
    calibrated = CalibratedWeights(calibration.sequences) if calibration else None
    chosen = cpu_passes(profile, without, calibrated or to_nearest, stored_levels(bundle))
    names = {each.name for each in chosen}
    one_for_all = FREE_DIMENSIONS in names
    # One graph for all takes the first chunk of a prompt too, over a cache of no valid row.
    members = [graph for graph in manifest.graphs if graph.spec.cache_len or not one_for_all]

    # 1. The graphs, or any of the family where its dimensions are freed; weights are promised.
    writer.progress.step("lowering")
    models: dict[str, ir.Model] = {}  # path -> graph
    tensors: dict[str, StoredTensor] = {}
    for graph in members[:1] if one_for_all else members:
        model = ir.load(bundle.file(graph.path))
        run_passes(model, chosen, manifest, profile)
        tensors |= promise_weights(model)
        models[DECODER if one_for_all else graph.path] = model

    # 2. Each promised weight is made.
    jobs = {name: weight_job(tensor) for name, tensor in tensors.items()}
    num_bytes = sum(tensor.nbytes for tensor in tensors.values())
    writer.place.require(num_bytes)
    writer.progress.step(f"weights: {len(tensors)} tensors")
    writer.progress.expect(num_bytes)
    parts = LayerParts(model, manifest.model, writer.place.directory / GRAPHS_DIR)
    if calibrated is None:
        writer.files.start_weights(list({job.names: job for job in jobs.values()}.values()))
        writer.files.wait()
    else:
        calibrated.write(parts, jobs, writer)

    # 3. The cache's scales, which are measured on what was made.
    if profile.kv_cache == "int8":
        writer.progress.step("calibrating the cache")
        scales = calibrate(bundle, parts)
        with named("quantize_cache", "give --kv-cache float"):
            QuantizeCache(manifest.model, scales)(models[DECODER])
        if OWN_KERNELS in names and manifest.model.head_dim <= MAX_HEAD_DIM:
            with named("own_attention", "give --kernels onnxruntime"):
                OwnAttention(manifest.model)(models[DECODER])
    for path, model in models.items():
        writer.files.write(path, [ir.to_proto(model).SerializeToString()])
    graphs = (
        _describe(graph.spec, path, models[path])
        for graph in members
        for path in [DECODER if one_for_all else graph.path]
    )
    # The attention that is left written out is that of the portable graphs.
    backend: Backend = "onnxruntime" if one_for_all else "portable"
    return Compiled(
        graphs=tuple(graphs),
        backend=backend,
        kernels=KERNELS_VERSION if OWN_KERNELS in names else None,
        source_files=calibration.source_file if calibration else {},
    )


def _describe(spec: GraphSpec, path: str, model: ir.Model) -> Graph:
    """The graph in the sizes of one member of the family."""
    num_rows = spec.batch_size * (spec.seq_len if spec.phase == "score" else 1)
    sizes = {BATCH_SIZE: spec.batch_size, SEQ_LEN: spec.seq_len, NUM_LOGIT_ROWS: num_rows}
    return Graph(
        spec=spec,
        path=path,
        cost=cost_on_cpu(spec),
        inputs=tuple(tensor_spec(value, sizes) for value in model.graph.inputs),
        outputs=tuple(tensor_spec(value, sizes) for value in model.graph.outputs),
    )
