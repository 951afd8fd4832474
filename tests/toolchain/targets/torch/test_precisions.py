"""Claims about the precisions of torch programs: each computes with the weights that it stores."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from export.exporter import export_bundle
from export.forms import program_form
from export.graphs import FREQUENCIES, program_graph, program_rows
from export.positions import inverse_frequencies
from export.program import trace_program
from export.program_weights import whole_group
from profiles import BITS, Precision, load_profile
from runtime.bundle import tensor_names as names
from runtime.bundle.hashing_writer import HashingWriter
from runtime.bundle.manifest import Graph, GraphSpec, ModelConfig
from runtime.bundle.reader import TOKENIZER, Bundle, load_bundle
from runtime.errors import UserError
from runtime.progress import SILENT
from runtime.sessions import Chunk, open_session
from tests.compiler import needs_compiler
from tests.export.llamas import llama, random_ids
from tests.models import SEVEN_B, TINY
from tests.paths import DATA
from toolchain.choices import Choices
from toolchain.compiler import compile_bundle
from toolchain.targets.cpu.blocks import dequantize_blocks, quantize_blocks
from toolchain.targets.torch.devices import DEVICES, TorchDevice
from toolchain.targets.torch.weights import program_weights, weight_jobs

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_torch_thread"), needs_compiler]

CPU, CUDA = DEVICES["torch-cpu"], DEVICES["torch-cuda"]
TWO = load_profile(str(DATA / "two.toml"))
PREFILL, DECODE = TWO.graphs
ROWS = program_rows(TWO.graphs)
NUM_TOKENS = 7
# Of logits up to 5: float32's own rounding, or that of the numbers that are computed with.
BOUNDS: dict[Precision, float] = {
    "fp32": 1e-4,
    "int8": 1e-4,
    "int4": 1e-4,
    "fp16": 0.03,
    "bf16": 0.25,
}


@pytest.fixture(scope="module")
def exported(bundles: Path, made_once: Callable[[str, Callable[[Path], object]], Path]) -> Bundle:
    def make(directory: Path) -> None:
        model = directory / "model"
        torch.nn.Module.half(llama(TINY)).save_pretrained(model)
        (model / TOKENIZER).write_bytes((bundles / "checkpoint" / TOKENIZER).read_bytes())
        exported = export_bundle(model, TWO, directory / "exported", SILENT)
        compile_bundle(exported, directory / "int4", Choices(target="torch-cpu", weights="int4"))

    return load_bundle(made_once("torch-precisions", make) / "exported")


def rounded(weights: Precision) -> dict[str, Tensor]:
    """What the files stand for, by transformers' names, made without torch's layouts."""
    profile = TWO.model_copy(update={"weights": weights})
    state = {name: tensor.half().float() for name, tensor in llama(TINY).state_dict().items()}
    if weights == "bf16":
        return {name: tensor.bfloat16().float() for name, tensor in state.items()}
    if weights not in BITS:
        return state
    for name, tensor in state.items():
        module = name.removesuffix(".weight")
        if module.endswith(("_proj", "lm_head")):
            bits, wanted = fineness(profile.weights, module)
            group = whole_group(tensor.shape[1], wanted)
            packed = quantize_blocks(tensor.numpy(), bits, group)
            state[name] = torch.from_numpy(dequantize_blocks(*packed, bits).copy())
    return state


def fineness(weights: Precision, module: str) -> tuple[int, int]:
    """TWO has groups of 32, and an int4 model an int8 head."""
    return (4 if weights == "int4" and module != "lm_head" else 8), 32


def expected(weights: Precision) -> Tensor:
    model = llama(TINY)
    model.load_state_dict(rounded(weights))
    with torch.no_grad():
        logits: Tensor = model(random_ids(TINY, 1, NUM_TOKENS)).logits[0]
    return logits


def graph_of(
    spec: GraphSpec, weights: Precision, device: TorchDevice, config: ModelConfig
) -> Graph:
    profile = TWO.model_copy(update={"weights": weights})
    files = [spec for weight in program_weights(config, profile, device) for spec in weight.files]
    return program_graph(config, spec, ROWS, device.dtypes[weights], "unwritten", files)


def stored(bundle: Bundle, weights: Precision, directory: Path) -> dict[str, Tensor]:
    """The files that compile writes, read back."""
    profile = TWO.model_copy(update={"weights": weights})
    made = program_weights(TINY, profile, CPU)
    with HashingWriter(directory) as writer:
        writer.start_weights(weight_jobs(bundle, made, CPU))
        writer.wait()
    tensors = {FREQUENCIES: inverse_frequencies(TINY)}
    for spec in (spec for weight in made for spec in weight.files):
        file = directory / "graphs/weights" / spec.name
        flat = torch.frombuffer(bytearray(file.read_bytes()), dtype=getattr(torch, spec.dtype))
        tensors[spec.name] = flat.reshape(spec.shape)
    return tensors


@pytest.mark.parametrize("weights", BOUNDS)
@torch.no_grad()
def test_logits_are_those_of_float32_with_the_rounded_weights(
    exported: Bundle, weights: Precision, tmp_path: Path
) -> None:
    right = expected(weights)
    tensors = stored(exported, weights, tmp_path)
    made = program_weights(TINY, TWO.model_copy(update={"weights": weights}), CPU)
    graphs = {spec: graph_of(spec, weights, CPU, TINY) for spec in (PREFILL, DECODE)}
    cached = (spec for spec in graphs[PREFILL].inputs if spec.name.startswith("past_"))
    tensors |= {t.name: torch.zeros(t.shape, dtype=getattr(torch, t.dtype)) for t in cached}
    programs = {
        spec: trace_program(TINY, graph, program_form(spec), made).module()
        for spec, graph in graphs.items()
    }
    ids = random_ids(TINY, 1, NUM_TOKENS)
    for spec, start, end in ((PREFILL, 0, 4), (PREFILL, 4, 6), (DECODE, 6, 7)):
        given = {
            names.INPUT_IDS: torch.nn.functional.pad(
                ids[:, start:end], (0, spec.seq_len - end + start)
            ),
            names.START: torch.tensor([start]),
            names.LOGIT_ROWS: torch.tensor([end - start - 1]),
            **tensors,
        }
        ours = programs[spec](*(given[tensor.name] for tensor in graphs[spec].inputs))
        torch.testing.assert_close(ours[0], right[end - 1], atol=BOUNDS[weights], rtol=0)


def test_machine_code_for_int4_and_its_int8_head_gives_the_same(exported: Bundle) -> None:
    right, ids = expected("int4").numpy(), random_ids(TINY, 1, NUM_TOKENS)[0].tolist()
    with closing(open_session(load_bundle(exported.path.parent / "int4"))) as session:
        prefill, decode = session.manifest.graphs
        for graph, start, end in ((prefill, 0, 4), (prefill, 4, 6), (decode, 6, 7)):
            chunk = Chunk(slot=0, start=start, token_ids=ids[start:end])
            ours = session.run(graph, [chunk])[0]
            np.testing.assert_allclose(ours, right[end - 1], rtol=0, atol=BOUNDS["int4"])


def calls(program: torch.export.ExportedProgram, name: str) -> list[torch.fx.Node]:
    return [node for node in program.graph.nodes if f"aten.{name}." in f"{node.target}."]


@pytest.mark.parametrize("spec", [DECODE, PREFILL], ids=["decode", "prefill"])
def test_the_programs_for_cuda_in_int4_call_its_kernel_for_every_layer(spec: GraphSpec) -> None:
    config = SEVEN_B.model_copy(update={"num_hidden_layers": 2})
    profile = TWO.model_copy(update={"weights": "int4", "block_size": 128})
    made = program_weights(config, profile, CUDA)
    files = [file for weight in made for file in weight.files]
    graph = program_graph(config, spec, ROWS, "bfloat16", "unwritten", files)
    program = trace_program(config, graph, program_form(spec), made, "cuda")
    found = calls(program, "_weight_int4pack_mm")
    assert len(found) == 7 * config.num_hidden_layers
    q_proj = next(weight for weight in made if weight.module == "layers.0.self_attn.q_proj")
    assert [file.shape for file in q_proj.files] == [(512, 32, 32, 4), (32, 4096, 2)]
    assert {node.meta["val"].dtype for node in found} == {torch.bfloat16}


def test_what_starts_a_prompt_is_a_call_that_flash_attention_takes() -> None:
    """On CUDA torch takes that kernel where no mask is given."""
    first = GraphSpec(phase="prefill", batch_size=1, seq_len=8, cache_len=0)
    graph = graph_of(first, "fp16", CUDA, TINY)
    [call] = calls(trace_program(TINY, graph, program_form(first)), "scaled_dot_product_attention")
    query, *_, mask, dropout, is_causal = call.args
    assert (mask, dropout, is_causal) == (None, 0.0, True)
    assert isinstance(query, torch.fx.Node)
    assert query.meta["val"].dtype == torch.float16


def test_groups_are_whole_and_no_larger_than_asked() -> None:
    assert whole_group(11008, 128, (32, 64, 128, 256)) == 128
    assert whole_group(352, 128, (32, 64, 128, 256)) == 32
    assert whole_group(352, 128) == 88
    assert whole_group(352, 0) == 352
    with pytest.raises(UserError, match="48 inputs, groups of 128; allowed: groups of 32, 64"):
        whole_group(48, 128, (32, 64, 128, 256))
