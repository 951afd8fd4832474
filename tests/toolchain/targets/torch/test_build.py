"""Claims about the target torch-cpu: its machine code gives the tokens of the CPU in float32."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import runtime.cli
from export.exporter import export_bundle
from export.graphs import FREQUENCIES
from export.parameters import parameters
from profiles import load_profile
from runtime.bundle.manifest import GraphSpec
from runtime.bundle.reader import TOKENIZER, Bundle, load_bundle
from runtime.engine.engine import Engine
from runtime.engine.generate import generate
from runtime.engine.scheduler import Scheduler
from runtime.engine.sequence import Request
from runtime.errors import SessionError
from runtime.progress import SILENT
from runtime.sampling.params import SamplingParams
from runtime.sessions import Chunk, Session, SessionOptions, open_session
from runtime.sessions.torch_devices import Cpu
from runtime.sessions.torch_program import load_package
from tests.compiler import needs_compiler
from tests.export.llamas import llama
from tests.models import TINY
from tests.paths import DATA, ROOT
from toolchain.choices import Choices
from toolchain.compiler import compile_bundle
from toolchain.errors import TargetError

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_torch_thread"), needs_compiler]

GROUPED = TINY.model_copy(update={"num_hidden_layers": 2})  # two heads share a key
ALONE = GraphSpec(phase="prefill", batch_size=1, seq_len=4, cache_len=0)
FOUR = GraphSpec(phase="decode", batch_size=4, seq_len=1, cache_len=40)
PROMPTS = [[1, *range(40, 40 + 7 * length, 7)] for length in (0, 2, 3, 9, 20)]
ANSWER = 16
TOLERANCE = 1e-4  # of logits up to 5


@pytest.fixture(scope="session")
def made(bundles: Path, made_once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """Of random weights so large that each matters: exported, for ONNX Runtime and for torch."""

    def make(directory: Path) -> None:
        model = directory / "model"
        torch.nn.Module.half(llama(GROUPED)).save_pretrained(model)
        shutil.copy(bundles / "checkpoint" / TOKENIZER, model)
        two = load_profile(str(DATA / "two.toml"))
        profile = two.model_copy(update={"graphs": (*two.graphs, ALONE, FOUR)})
        exported = export_bundle(model, profile, directory / "exported", SILENT)
        compile_bundle(exported, directory / "fp32", Choices(weights="fp32"))
        compile_bundle(exported, directory / "torch", Choices(target="torch-cpu", weights="fp32"))

    return made_once("torch-programs", make)


def answers(session: Session) -> list[list[int]]:
    scheduler = Scheduler(Engine(session))
    params = SamplingParams(max_tokens=ANSWER, ignore_eos=True)
    requests = [Request(prompt_ids=prompt, params=params) for prompt in PROMPTS]
    return [[token.id for token in generate(scheduler, request)] for request in requests]


def test_greedy_tokens_are_those_of_the_cpu_in_float32(made: Path) -> None:
    with (
        closing(open_session(load_bundle(made / "fp32"))) as expected,
        closing(open_session(load_bundle(made / "torch"))) as ours,
    ):
        assert answers(ours) == answers(expected)


def test_four_sequences_in_one_program_say_what_each_says_alone(made: Path) -> None:
    params = SamplingParams(max_tokens=ANSWER, ignore_eos=True)
    with closing(open_session(load_bundle(made / "torch"))) as session:
        alone = answers(session)[1:]
        scheduler = Scheduler(Engine(session))
        sequences = [scheduler.add(Request(prompt_ids=ids, params=params)) for ids in PROMPTS[1:]]
        while not scheduler.is_idle:
            scheduler.step()
    assert [[token.id for token in sequence.tokens] for sequence in sequences] == alone
    # Prompts in parts of four, then steps of all that are ready.
    assert scheduler.counters.decode_calls < 2 * ANSWER


def test_logits_in_chunks_and_after_going_back_are_those_of_float32(made: Path) -> None:
    tokens = [1, *range(300, 339)]
    back = [(39, 40), (36, 40), (9, 10), (5, 9), (3, 5), (0, 4)]
    pieces = [*((start, start + 4) for start in range(0, 40, 4)), *back, (4, 6), (6, 7), (7, 11)]
    with (
        closing(open_session(load_bundle(made / "fp32"))) as expected,
        closing(open_session(load_bundle(made / "torch"))) as ours,
    ):
        for start, end in pieces:
            given = tokens[start:end]
            right, got = (
                session.run(
                    session.manifest.graphs[int(len(given) == 1)],
                    [Chunk(slot=0, start=start, token_ids=given)],
                )
                for session in (expected, ours)
            )
            np.testing.assert_allclose(got, right, rtol=0, atol=TOLERANCE)


def test_a_bundle_has_each_weight_once_and_programs_without_any(made: Path) -> None:
    bundle = load_bundle(made / "torch")
    weights = {f"graphs/weights/{name}" for name in (*parameters(GROUPED), FREQUENCIES)}
    programs = {graph.path for graph in bundle.manifest.graphs}
    assert {file for file in bundle.manifest.files if "graphs/" in file} == weights | programs
    assert all(set(graph.weights) == weights for graph in bundle.manifest.graphs)
    halves = np.fromfile(made / "exported/graphs/weights/norm.weight", np.float16)
    floats = np.fromfile(bundle.file("graphs/weights/norm.weight"), np.float32)
    np.testing.assert_array_equal(floats, halves.astype(np.float32))
    assert (bundle.manifest.backend, bundle.manifest.target) == ("torch", "torch-cpu")


def test_runtime_generate_runs_it(made: Path) -> None:
    outputs = []
    for name in ("fp32", "torch"):
        command = ["generate", str(made / name), "river", "--raw", "--json", "--max-tokens", "8"]
        result = CliRunner().invoke(runtime.cli.app, command)
        assert result.exit_code == 0, result.output
        outputs.append(json.loads(result.stdout)["token_ids"])
    assert outputs[0] == outputs[1]
    assert len(outputs[0]) == 8


def test_without_torch_the_extra_is_named(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "runtime.sessions.torch_program", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)  # as where it is not installed
    message = r"needs the Python package torch; install alpaca2-toolchain\[torch\]"
    with pytest.raises(SessionError, match=message):
        open_session(load_bundle(made / "torch"))


def test_a_trace_is_refused_with_what_times_kernels_instead(made: Path, tmp_path: Path) -> None:
    with pytest.raises(SessionError, match="backend torch leaves no trace; run it under perf"):
        open_session(load_bundle(made / "torch"), SessionOptions(trace=tmp_path))


def run(*command: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    module, *arguments = map(str, command)
    code = f"import sys; sys.argv[0] = '{module}'; from {module}.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_machine_code_for_another_cpu_is_refused_before_it_runs(made: Path) -> None:
    done = run("runtime", "generate", made / "torch", "river", ATEN_CPU_CAPABILITY="default")
    assert done.returncode == 1
    assert "was compiled for another cpu; got DEFAULT; allowed: " in done.stderr
    assert "compile the bundle on this machine or one like it" in done.stderr


def test_without_a_compiler_nothing_is_left(made: Path, tmp_path: Path) -> None:
    output = tmp_path / "compiled"
    command = ("compile", made / "exported", "-o", output, "--target", "torch-cpu")
    done = run("toolchain", *command, CXX="no-such-compiler")
    assert done.returncode == 1
    assert "there is none; got CXX is no-such-compiler; install g++" in done.stderr
    assert not list(tmp_path.iterdir())


def test_weights_that_a_device_does_not_take_are_refused(made: Path, tmp_path: Path) -> None:
    exported: Bundle = load_bundle(made / "exported")
    message = "torch-cuda has no such weights; got fp32; allowed: fp16, bf16, int8, int4"
    with pytest.raises(TargetError, match=message):
        compile_bundle(exported, tmp_path / "b", Choices(target="torch-cuda", weights="fp32"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_machine_without_a_gpu_compiles_nothing_for_one(made: Path, tmp_path: Path) -> None:
    output = tmp_path / "compiled"
    done = run("toolchain", "compile", made / "exported", "-o", output, "--target", "torch-cuda")
    assert done.returncode == 1
    assert "programs for CUDA are compiled on a machine with the GPU that runs them" in done.stderr
    assert "install both, or compile there" in done.stderr
    assert not list(tmp_path.iterdir())


class OtherCard(Cpu):
    def facts(self) -> Mapping[str, str]:
        return {"gpu": "sm_80"}


def test_machine_code_for_another_gpu_is_refused_before_it_runs(made: Path) -> None:
    bundle = load_bundle(made / "torch")
    message = "was compiled for another gpu; got sm_80; .*compile the bundle on this machine"
    with pytest.raises(SessionError, match=message):
        load_package(bundle, bundle.manifest.graphs[0], OtherCard(SessionOptions(threads=1)))


def test_a_graph_without_a_cache_starts_prompts(made: Path) -> None:
    """As a program, which writes its rows; ONNX Runtime has one graph for all."""
    names = {
        name: [graph.spec.name for graph in load_bundle(made / name).manifest.graphs]
        for name in ("fp32", "torch")
    }
    assert names["fp32"] == ["prefill_s4", "decode_b1", "decode_b4"]
    assert names["torch"] == ["prefill_s4", "decode_b1", "prefill_s4_c0", "decode_b4"]
    with closing(open_session(load_bundle(made / "torch"))) as session:
        engine = Engine(session)
        with engine.slot(PROMPTS[4]) as slot:
            parts = [part.graph.spec.name for part in engine.parts(slot, PROMPTS[4])]
    assert parts[0] == "prefill_s4_c0"
