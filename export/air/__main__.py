"""python -m export.air < job.json: writes the .air of each graph, and a line for each when done."""

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from export.air.converters import register_converters
from export.air.job import AirJob
from export.air.model import finished_model
from export.air.program import chip_program
from export.air.torchair import load_torchair
from export.air.weights import Quantisation
from runtime.bundle.manifest import TensorSpec


def main() -> None:
    job = AirJob.model_validate_json(sys.stdin.buffer.read())
    models: list[bytes] = []

    def keep(model: bytes, options: Mapping[str, str]) -> None:
        models.append(model)

    torchair = load_torchair(Path(job.wheel), keep)
    register_converters(torchair)
    quantisation = None if job.group_size is None else Quantisation(group_size=job.group_size)
    for graph in job.graphs:
        inputs, module = chip_program(job.model, graph, quantisation)
        _convert(torchair, module, inputs)
        given = {spec.name for spec in graph.inputs}
        files = {
            spec.name: f"{job.weights}/{spec.name}" for spec in inputs if spec.name not in given
        }
        Path(graph.path).write_bytes(_finished(models.pop(), graph.spec.name, inputs, files))
        print(graph.spec.name, flush=True)


def _convert(torchair: Any, module: torch.fx.GraphModule, inputs: list[TensorSpec]) -> None:
    """Runs torchair's compiler, which ends by raising."""
    from torchair.npu_export import (  # type: ignore[import-not-found, unused-ignore]
        ExportSuccess,
    )

    config = torchair.CompilerConfig()
    config.export.export_mode = True
    config.export.export_name = "graph"
    config.export.weight_name = {}  # weights stay inputs here
    config.experimental_config.enable_ref_data = True  # caches are written in place
    backend = torchair.get_npu_backend(compiler_config=config)
    tensors = [_untouched(spec) for spec in inputs]
    with tempfile.TemporaryDirectory() as notes, torch.no_grad():
        config.export.export_path_dir = notes
        try:
            backend(module, tensors)(*tensors)
        except ExportSuccess:
            return
    raise AssertionError("torchair exports by raising")


def _untouched(spec: TensorSpec) -> Tensor:
    """Memory that nobody reads or writes, so that it takes none."""
    return torch.empty(spec.shape, dtype=getattr(torch, spec.dtype))


def _finished(data: bytes, name: str, inputs: list[TensorSpec], files: Mapping[str, str]) -> bytes:
    from torchair._ge_concrete_graph.ge_ir_pb2 import (  # type: ignore[import-not-found, unused-ignore]
        ModelDef,
    )

    model = ModelDef()
    model.ParseFromString(data)
    return finished_model(model, name, inputs, files)


if __name__ == "__main__":
    main()
