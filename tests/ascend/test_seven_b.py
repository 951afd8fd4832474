"""The shape of Chinese-Alpaca-2-7B on the emulated 24 GB card, its weights being holes in files."""

import math
import os
import struct
from contextlib import closing
from pathlib import Path

import onnx_ir as ir
import pytest

from export.graphs import graph_inputs, graph_outputs
from export.parameters import parameter_shape, parameters
from export.trace import trace
from profiles import load_profile
from runtime.bundle.atomic_directory import AtomicDirectory
from runtime.bundle.cpu_costs import cost_on_cpu
from runtime.bundle.manifest import FileEntry, Graph
from runtime.bundle.reader import GENERATION_CONFIG, GRAPHS_DIR, TOKENIZER, WEIGHTS_DIR, Bundle
from runtime.errors import SessionError
from runtime.progress import SILENT
from runtime.sessions import open_session
from tests.ascend.conftest import put_toolkit
from tests.emulator.device import Emulator
from tests.models import SEVEN_B, bare_manifest
from toolchain import compiler
from toolchain.choices import Choices
from toolchain.plan.planner import make_plan

pytestmark = pytest.mark.slow

SHIPPED = load_profile("310p3")
# Of each kind of graph one: the compiler imitated here writes 14 GB for every one.
GRAPHS = ("prefill_s512", "decode_b1", "decode_b4")
PROFILE = SHIPPED.model_copy(
    update={
        "graphs": tuple(spec for spec in SHIPPED.graphs if spec.name in GRAPHS),
        "short_caches": (),
    }
)


def write_exported(output: Path) -> Bundle:
    """What export writes, but for the numbers: a mark that tells weights apart, then a hole."""
    graphs = [
        Graph(
            spec=spec,
            path=f"{GRAPHS_DIR}/{spec.name}.onnx",
            cost=cost_on_cpu(spec),
            inputs=graph_inputs(SEVEN_B, spec),
            outputs=graph_outputs(SEVEN_B, spec),
        )
        for spec in PROFILE.graphs
    ]
    weights = output / GRAPHS_DIR / WEIGHTS_DIR
    weights.mkdir(parents=True)
    for i, name in enumerate(parameters(SEVEN_B)):
        shape = parameter_shape(SEVEN_B, name)
        (weights / name).write_bytes(struct.pack("<q", i + 1))
        os.truncate(weights / name, 2 * math.prod(shape))
    for graph in graphs:
        proto = ir.to_proto(trace(SEVEN_B, graph.spec))
        (output / graph.path).write_bytes(proto.SerializeToString())
    (output / TOKENIZER).write_bytes(b"not read here")
    (output / GENERATION_CONFIG).write_bytes(b"{}")
    # Hashing 14 GB of zeros would take longer than all the rest, and compile asks for sizes only.
    files = {
        file.relative_to(output).as_posix(): FileEntry(size=file.stat().st_size, sha256="")
        for file in output.rglob("*")
        if file.is_file()
    }
    manifest = bare_manifest(SEVEN_B, tuple(graphs)).model_copy(
        update={
            "stage": "exported",
            "backend": "portable",
            "target": "portable",
            "weights": "fp16",
            "files": files,
            "profile": PROFILE.model_dump(mode="json"),
        }
    )
    return Bundle(path=output, manifest=manifest)


@pytest.fixture(scope="module")
def seven_b(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    directory = tmp_path_factory.mktemp("seven_b")
    exported = write_exported(directory / "exported")
    with pytest.MonkeyPatch.context() as patch:
        put_toolkit(directory / "cann", patch, workspace_bytes=100_000_000)
        # The memory and the disk of a build server; these weights take no room.
        patch.setattr(compiler, "require_memory", lambda *_: None)
        patch.setattr(AtomicDirectory, "require", lambda *_: None)
        # Joined weights would be 9 GB of zeros, and not holes.
        choices = Choices(without=("join_products",))
        return compiler.compile_bundle(exported, directory / "om", choices, progress=SILENT)


def test_the_plan_fits_with_one_copy_of_the_weights_and_not_with_one_per_graph() -> None:
    assert make_plan(SEVEN_B, PROFILE).fits
    assert not make_plan(SEVEN_B, PROFILE, share_weights=False).fits


def test_the_verdict_of_compile_is_that_of_the_plan(seven_b: Bundle) -> None:
    device, plan = seven_b.manifest.device, make_plan(SEVEN_B, PROFILE)
    assert device is not None
    assert device.shared_bytes >= 0.99 * device.weight_bytes
    assert device.needed_bytes == pytest.approx(plan.needs["shared"], rel=1e-3)
    assert device.verdict.endswith(": fits")


def test_the_card_takes_all_graphs_with_one_copy_of_the_weights(
    seven_b: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator = Emulator()
    emulator.install(monkeypatch)
    with closing(open_session(seven_b)):
        assert emulator.transfers["H2D"] < 1.001 * 13.87e9
    assert (emulator.violations, emulator.leaks()) == ([], [])


def test_the_loader_refuses_a_copy_for_each_graph(
    seven_b: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator = Emulator(external_weight_api=False)
    emulator.install(monkeypatch)
    with pytest.raises(SessionError, match="does not fit the memory of the device") as caught:
        open_session(seven_b)
    assert "weights 41.58" in str(caught.value)
    assert "KV cache (slots 4) 4.29" in str(caught.value)
    assert "one copy per graph" in str(caught.value)
    assert "20.63 GB that are free" in str(caught.value)
    assert "install CANN 8.5 or newer on the box" in str(caught.value)
    assert emulator.calls["rt.malloc_align32"] == 0
    assert (emulator.violations, emulator.leaks()) == ([], [])
