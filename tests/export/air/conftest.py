"""What export.air makes of small models, with Huawei's converters out of the unzipped wheel.

Every test here needs that wheel: `make air-test` brings it.
"""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from export.air.job import AirJob
from export.air.weights import Quantisation, chip_weights
from export.graphs import chip_graph, program_rows
from runtime.bundle.hashing_writer import HashingWriter
from runtime.bundle.manifest import Graph, GraphSpec
from runtime.bundle.reader import GRAPHS_DIR, WEIGHTS_DIR, Bundle, load_bundle
from runtime.bundle.rope import YarnRope
from tests.conftest import Make
from tests.export.air.interpreter import read_graph, run
from tests.export.llamas import BASE, llama
from tests.models import bare_manifest
from toolchain.targets.ascend.air_weights import write_weights

WEIGHTS = f"{GRAPHS_DIR}/{WEIGHTS_DIR}"
SMALL = (
    GraphSpec(phase="prefill", batch_size=1, seq_len=8, cache_len=40),
    GraphSpec(phase="score", batch_size=1, seq_len=4, cache_len=40),
    GraphSpec(phase="decode", batch_size=1, seq_len=1, cache_len=40),
    GraphSpec(phase="decode", batch_size=3, seq_len=1, cache_len=40),
)
# Heads that ApplyRotaryPosEmb takes, two for each pair of key and value, and scaled positions.
GROUPED = BASE.model_copy(
    update={
        "hidden_size": 96,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 128,
        "rope_scaling": YarnRope(
            factor=4.0, original_max_position_embeddings=16, attention_factor=1.1386
        ),
    }
)


@dataclass(frozen=True)
class Airs:
    """The .air of each graph by name, with the weights beside them."""

    wheel: Path
    folder: Path
    graphs: dict[str, Graph]

    def read(self, name: str) -> Any:
        return read_graph(self.wheel, self.folder / f"{name}.air")

    def run(self, name: str, inputs: dict[str, Tensor]) -> Tensor:
        return run(self.read(name), inputs, self.folder)


def make_airs(
    wheel: Path,
    folder: Path,
    bundle: Bundle,
    group_size: int | None = None,
    specs: tuple[GraphSpec, ...] = SMALL,
) -> Airs:
    """Writes {graph}.air, and the weights where they look for them."""
    config = bundle.manifest.model
    quantisation = None if group_size is None else Quantisation(group_size=group_size)
    with HashingWriter(folder) as stage:
        write_weights(bundle, chip_weights(config, quantisation), stage)
        stage.wait()
    graphs = [
        chip_graph(config, spec, program_rows(SMALL), str(folder / f"{spec.name}.air"), 1.0)
        for spec in specs
    ]
    job = AirJob(
        wheel=str(wheel), model=config, group_size=group_size, graphs=tuple(graphs), weights=WEIGHTS
    )
    command = [sys.executable, "-m", "export.air"]
    document = job.model_dump_json().encode()
    done = subprocess.run(command, input=document, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    assert done.stdout.decode().splitlines() == [spec.name for spec in specs]
    return Airs(wheel, folder, {graph.spec.name: graph for graph in graphs})


@pytest.fixture(scope="session")
def miniature(bundles: Path) -> Bundle:
    return load_bundle(bundles / "small-exported")


@pytest.fixture(scope="session")
def grouped(made_once: Callable[[str, Make], Path]) -> Bundle:
    """The weights of a model of transformers, where an exported bundle has them."""

    def make(folder: Path) -> None:
        (folder / WEIGHTS).mkdir(parents=True)
        for name, tensor in llama(GROUPED).state_dict().items():
            file = folder / WEIGHTS / name.removeprefix("model.")
            file.write_bytes(tensor.half().numpy().tobytes())

    return Bundle(path=made_once("grouped", make), manifest=bare_manifest(GROUPED))


@pytest.fixture(scope="session")
def airs(
    torchair: Path, miniature: Bundle, grouped: Bundle, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Airs]:
    """Gives those of "miniature", "grouped" or "int8", made when they are first asked for."""
    made: dict[str, Airs] = {}
    of = {"miniature": (miniature, None), "grouped": (grouped, None), "int8": (miniature, 0)}

    def get(name: str) -> Airs:
        if name not in made:
            bundle, group_size = of[name]
            made[name] = make_airs(torchair, tmp_path_factory.mktemp(name), bundle, group_size)
        return made[name]

    return get
