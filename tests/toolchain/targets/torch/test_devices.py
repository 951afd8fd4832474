"""Claims about the devices of torch sessions, by programs that remember what they were given."""

from contextlib import closing

import pytest
import torch
from torch import Tensor

from export.graphs import program_graph, weight_inputs
from runtime.bundle.manifest import Graph, GraphSpec
from runtime.errors import SessionError
from runtime.sessions import Chunk, SessionOptions
from runtime.sessions.torch_devices import Call, Cpu, Cuda
from runtime.sessions.torch_program import TorchSession
from tests.models import TINY, bare_manifest

DECODE, DECODE_2, PREFILL = (
    program_graph(TINY, spec, 24, "float32", "none")
    for spec in (
        GraphSpec(phase="decode", batch_size=1, seq_len=1, cache_len=20),
        GraphSpec(phase="decode", batch_size=2, seq_len=1, cache_len=20),
        GraphSpec(phase="prefill", batch_size=1, seq_len=4, cache_len=20),
    )
)


class Capturing(Cpu):
    """Counts what is fixed, and calls it from then on without looking at its arguments again."""

    def __init__(self) -> None:
        super().__init__(SessionOptions(threads=1))
        self.fixed_calls: list[Call] = []

    def fixed(self, call: Call) -> Call:
        self.fixed_calls.append(call)
        return call


class Remembering:
    """A program whose logits are its tokens; keeps the address of every input."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.addresses: list[tuple[int, ...]] = []

    def __call__(self, *inputs: Tensor) -> Tensor:
        self.addresses.append(tuple(tensor.data_ptr() for tensor in inputs))
        ids, start = inputs[:2]
        logits = torch.zeros(len(ids), TINY.vocab_size)
        logits[:, 0], logits[:, 1] = ids[:, 0].float(), start.float()
        return logits


@pytest.fixture
def device() -> Capturing:
    return Capturing()


@pytest.fixture
def programs() -> dict[str, Remembering]:
    return {}


@pytest.fixture
def session(device: Capturing, programs: dict[str, Remembering]) -> TorchSession:
    manifest = bare_manifest(graphs=(PREFILL, DECODE, DECODE_2)).model_copy(update={"num_slots": 3})
    weights = {tensor.name: torch.zeros(1) for tensor in weight_inputs(TINY, "float32")}

    def load(graph: Graph) -> Remembering:
        programs[graph.spec.name] = Remembering(graph)
        return programs[graph.spec.name]

    return TorchSession(manifest, weights, load, device)


def token(slot: int, start: int, token_id: int) -> Chunk:
    return Chunk(slot=slot, start=start, token_ids=[token_id])


def test_every_step_of_a_slot_uses_the_same_addresses_with_new_tokens(
    session: TorchSession, programs: dict[str, Remembering], device: Capturing
) -> None:
    with closing(session):
        for step in range(3):
            logits = session.run(DECODE, [token(0, step, 40 + step)])
            assert logits[0, :2].tolist() == [40 + step, step]
        assert len(set(programs["decode_b1"].addresses)) == 1
        session.run(DECODE, [token(2, 0, 7)])  # another slot has another cache
        assert len(set(programs["decode_b1"].addresses)) == 2
        assert len(device.fixed_calls) == 2
        for step in range(3):
            session.run(DECODE_2, [token(0, 3 + step, 1), token(1, step, 2)])
        assert len(set(programs["decode_b2"].addresses)) == 1
        assert len(device.fixed_calls) == 3


def test_preparing_a_graph_fixes_its_first_call_and_writes_behind_valid_rows(
    session: TorchSession, programs: dict[str, Remembering], device: Capturing
) -> None:
    """A capture runs the program: it may write where no row is valid only."""
    with closing(session):
        session.run(DECODE, [token(0, 4, 9)])
        session.prepare(DECODE_2)
        assert len(device.fixed_calls) == 2
        assert device.fixed_calls[-1]()[:, 1].tolist() == [5.0, 0.0]


def test_a_long_graph_is_called_as_it_is(session: TorchSession, device: Capturing) -> None:
    with closing(session):
        session.run(PREFILL, [Chunk(slot=1, start=0, token_ids=[3, 4])])
        assert not device.fixed_calls


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_machine_without_a_gpu_is_refused_with_the_next_step() -> None:
    message = r"runs on an NVIDIA GPU, and torch sees none; got torch .*; install both, or compile"
    with pytest.raises(SessionError, match=message):
        Cuda(SessionOptions())
