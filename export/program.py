"""(ModelConfig, Graph) -> torch program of one graph, for backends that take torch.

Positions and mask are made in the program, from how many rows each sequence has; new rows are
written into the caches that it is given. It holds no weight: all of them are inputs, named for
their files, so that whoever runs it maps each file once for all programs.
"""

import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call

from export.decoder import Decoder
from export.forms import OPERATORS, Form
from export.past import FirstRows, WrittenRows
from export.program_weights import ProgramWeight
from export.quantised_linear import replace_linears
from runtime.bundle import tensor_names as names
from runtime.bundle.manifest import Graph, ModelConfig

__all__ = ["eager_program", "trace_program"]

Inputs = dict[str, Tensor]


def trace_program(
    config: ModelConfig,
    graph: Graph,
    form: Form,
    weights: Sequence[ProgramWeight] = (),
    device: str = "cpu",
) -> torch.export.ExportedProgram:
    """Traces the decoder on tensors without data.

    Args:
        config: the model.
        graph: as program_graph describes it; the types of its inputs are those it computes in.
        form: what the operators become.
        weights: those of the linear layers that are quantised, and any others.
        device: cpu or cuda, whose int4 products differ. The program is traced for the CPU;
            whoever compiles it for another device moves it there.

    Returns:
        A program that takes the graph's inputs in their order and returns the logits.
    """
    with torch.device("meta"):
        decoder = Decoder(config, form).eval()
        replace_linears(decoder, weights, device)

    def run(*tensors: Tensor) -> Tensor:
        given = {spec.name: tensor for spec, tensor in zip(graph.inputs, tensors, strict=True)}
        return _run(decoder, graph, form, given)

    with FakeTensorMode():
        inputs = tuple(
            torch.zeros(tensor.shape, dtype=getattr(torch, tensor.dtype)) for tensor in graph.inputs
        )
    return torch.export.export(_Module(run), inputs, strict=False)


def eager_program(config: ModelConfig, graph: Graph) -> Callable[..., Tensor]:
    """The program of a graph in operators of ours, which torch runs one by one."""
    program = trace_program(config, graph, OPERATORS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # raised inside torch's own copy of itself
        run: Callable[..., Tensor] = program.module()
        return run


class _Module(nn.Module):
    """What torch.export takes instead of a function: a module without parameters."""

    def __init__(self, run: Callable[..., Tensor]) -> None:
        super().__init__()
        self.run = run

    def forward(self, *tensors: Tensor) -> Tensor:
        return self.run(*tensors)


def _run(decoder: Decoder, graph: Graph, form: Form, given: Inputs) -> Tensor:
    ids_BS, start_B = given.pop(names.INPUT_IDS), given.pop(names.START)
    logit_rows = given.pop(names.LOGIT_ROWS, None)
    past = _pop_caches(decoder.config, graph, form, start_B, given)
    lengths_B = given.pop(names.LENGTHS, start_B + graph.spec.seq_len)
    positions_BS = start_B[:, None] + torch.arange(graph.spec.seq_len)
    seen = form.seen(positions_BS, lengths_B, past[0].keys.shape[1])
    # What is left are the weights.
    arguments = (ids_BS, positions_BS, seen, past, logit_rows)
    logits: Tensor = functional_call(decoder, given, arguments)[0]
    one_row = graph.spec.phase != "score" and logit_rows is None
    return logits.squeeze(1) if one_row else logits


def _pop_caches(
    config: ModelConfig, graph: Graph, form: Form, start_B: Tensor, given: Inputs
) -> Sequence[WrittenRows]:
    rows = WrittenRows if graph.spec.cache_len else FirstRows
    return [
        rows(given.pop(names.past_key(i)), given.pop(names.past_value(i)), start_B, form)
        for i in range(config.num_hidden_layers)
    ]
