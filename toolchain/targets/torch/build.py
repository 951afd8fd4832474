"""compile for torch: programs -> packages of machine code, beside one set of weights in files."""

from collections.abc import Sequence
from math import prod

from export.forms import program_form
from export.graphs import program_graph, program_rows
from export.packages import package_compiler
from export.program import trace_program
from export.program_weights import ProgramWeight
from profiles import Profile
from runtime.bundle.reader import GRAPHS_DIR, Bundle
from runtime.bundle.writer import BundleWriter
from toolchain.targets.base import Compiled
from toolchain.targets.pass_list import choose_passes
from toolchain.targets.torch.devices import BYTES, DEVICES
from toolchain.targets.torch.footprint import program_specs
from toolchain.targets.torch.passes import PASSES
from toolchain.targets.torch.weights import program_weights, weight_jobs

__all__ = ["compile_for_torch"]


def compile_for_torch(
    bundle: Bundle, profile: Profile, without: Sequence[str], writer: BundleWriter
) -> Compiled:
    """See toolchain.compiler.compile_bundle.

    Raises:
        CompilerError: besides, no C++ compiler, no GPU, or one of the two compilers fails.
        UserError: int4 groups that the device's kernel does not take.
    """
    choose_passes(PASSES, profile, without)  # refuses any name
    config, device = bundle.manifest.model, DEVICES[profile.target]
    dtype = device.dtypes[profile.weights]
    weights = program_weights(config, profile, device)
    taken = [spec for weight in weights for spec in weight.files]
    specs = program_specs([graph.spec for graph in bundle.manifest.graphs])
    rows = program_rows(specs)
    graphs = [
        program_graph(config, spec, rows, dtype, f"{GRAPHS_DIR}/{spec.name}.pt2", taken)
        for spec in specs
    ]
    with package_compiler(writer.place.scratch("inductor"), device.name) as compile_package:
        # 1. Weights are converted on all cores, while ...
        num_bytes = _stored_bytes(weights)
        writer.place.require(num_bytes)
        writer.progress.expect(num_bytes)
        writer.files.start_weights(weight_jobs(bundle, weights, device))

        # 2. ... the programs are compiled, one after the other.
        for i, graph in enumerate(graphs, 1):
            writer.progress.step(f"program {i}/{len(graphs)}: {graph.spec.name}")
            form = program_form(graph.spec)
            program = trace_program(config, graph, form, weights, device.name)
            compile_package(program, writer.place.directory / graph.path)
    writer.progress.step(f"weights: {len(taken)} tensors")
    writer.files.wait()
    writer.files.adopt([graph.path for graph in graphs])
    return Compiled(graphs=tuple(graphs), backend=device.backend)


def _stored_bytes(weights: Sequence[ProgramWeight]) -> int:
    files = (spec for weight in weights for spec in weight.files)
    return sum(prod(spec.shape) * BYTES[spec.dtype] for spec in files)
