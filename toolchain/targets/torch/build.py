"""compile for torch-cpu: programs in float32 -> packages, beside one set of weights in files."""

from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path

import numpy as np

from export.forms import program_form
from export.graphs import FREQUENCIES, program_graph, program_rows
from export.packages import package_compiler
from export.parameters import parameter_shape, parameters
from export.positions import inverse_frequencies
from export.program import trace_program
from profiles import Profile
from runtime.bundle.hashing_writer import WeightJob
from runtime.bundle.reader import GRAPHS_DIR, WEIGHTS_DIR, Bundle
from runtime.bundle.writer import BundleWriter
from toolchain.targets.base import Compiled
from toolchain.targets.pass_list import choose_passes
from toolchain.targets.torch.footprint import program_specs
from toolchain.targets.torch.passes import PASSES

__all__ = ["compile_for_torch"]

FLOAT32 = 4
CHUNK_ELEMENTS = 1 << 20  # of a weight in one thread's hands


def compile_for_torch(
    bundle: Bundle, profile: Profile, without: Sequence[str], writer: BundleWriter
) -> Compiled:
    """See toolchain.compiler.compile_bundle.

    Raises:
        CompilerError: besides, no C++ compiler, or it fails.
    """
    choose_passes(PASSES, profile, without)  # refuses any name
    config = bundle.manifest.model
    specs = program_specs([graph.spec for graph in bundle.manifest.graphs])
    graphs = [
        program_graph(config, spec, program_rows(specs), "float32", f"{GRAPHS_DIR}/{spec.name}.pt2")
        for spec in specs
    ]
    with package_compiler(writer.place.scratch("inductor")) as compile_package:
        # 1. Weights are widened on all cores, while ...
        names = parameters(config)
        num_bytes = FLOAT32 * sum(prod(parameter_shape(config, name)) for name in names)
        writer.place.require(num_bytes)
        writer.progress.expect(num_bytes)
        frequencies = inverse_frequencies(config).numpy().tobytes()
        writer.files.start_weights(
            [
                *(_widened(bundle, name) for name in names),
                WeightJob(names=(FREQUENCIES,), chunks=lambda: iter([(frequencies,)])),
            ]
        )

        # 2. ... the programs are compiled, one after the other.
        for i, graph in enumerate(graphs, 1):
            writer.progress.step(f"program {i}/{len(graphs)}: {graph.spec.name}")
            program = trace_program(config, graph, program_form(graph.spec))
            compile_package(program, writer.place.directory / graph.path)
    writer.progress.step(f"weights: {len(names)} tensors")
    writer.files.wait()
    writer.files.adopt([graph.path for graph in graphs])
    return Compiled(graphs=tuple(graphs), backend="torch")


def _widened(bundle: Bundle, name: str) -> WeightJob:
    file = bundle.file(f"{GRAPHS_DIR}/{WEIGHTS_DIR}/{name}")
    return WeightJob(names=(name,), chunks=lambda: _chunks(file))


def _chunks(file: Path) -> Iterator[tuple[memoryview]]:
    halves = np.memmap(file, np.float16, mode="r")
    for start in range(0, len(halves), CHUNK_ELEMENTS):
        floats = halves[start : start + CHUNK_ELEMENTS].astype(np.float32)
        yield (floats.view(np.uint8).data,)
