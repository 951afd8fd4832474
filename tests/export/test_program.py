"""Claims about export.program: the logits of transformers, through caches written in place."""

from collections.abc import Callable, Sequence
from functools import lru_cache

import pytest
import torch
from torch import Tensor

from export.forms import FUSED, INLINE, OPERATORS, Form, program_form
from export.graphs import FREQUENCIES, program_graph, program_rows
from export.positions import inverse_frequencies
from export.program import trace_program
from runtime.bundle import tensor_names as names
from runtime.bundle.manifest import Graph, GraphSpec, ModelConfig
from runtime.bundle.rope import YarnRope
from tests.export.llamas import BASE, llama, random_ids

TOLERANCE = 1e-4
GARBAGE = 30.0  # what the cache holds where no row was written
NUM_TOKENS = 19
PREFILL = GraphSpec(phase="prefill", batch_size=1, seq_len=6, cache_len=20)
DECODE = GraphSpec(phase="decode", batch_size=1, seq_len=1, cache_len=20)
DECODE_3 = GraphSpec(phase="decode", batch_size=3, seq_len=1, cache_len=20)
FIRST_9 = GraphSpec(phase="prefill", batch_size=1, seq_len=9, cache_len=0)
SCORE_2 = GraphSpec(phase="score", batch_size=2, seq_len=4, cache_len=20)
ROWS = program_rows([PREFILL, DECODE])

YARN = YarnRope(factor=2.5, original_max_position_embeddings=8, attention_factor=1.1)
CHANGES: dict[str, dict[str, object]] = {
    "multi-head": {},
    "grouped": {"num_key_value_heads": 2},
    "tied and multi-query": {"tie_word_embeddings": True, "num_key_value_heads": 1},
    "yarn": {"rope_scaling": YARN, "num_hidden_layers": 1},
}
GROUPED = BASE.model_copy(update=CHANGES["grouped"])
every_form = pytest.mark.parametrize(
    "form", [OPERATORS, INLINE, FUSED], ids=["operators", "inline", "fused"]
)
pytestmark = pytest.mark.usefixtures("one_torch_thread")


@lru_cache
def traced(config: ModelConfig, spec: GraphSpec, form: Form) -> torch.export.ExportedProgram:
    graph = program_graph(config, spec, ROWS, "float32", "unwritten")
    return trace_program(config, graph, form)


class Program:
    """A program with the weights of transformers' model."""

    def __init__(self, config: ModelConfig, spec: GraphSpec, form: Form) -> None:
        self.graph: Graph = program_graph(config, spec, ROWS, "float32", "unwritten")
        self.run: Callable[..., Tensor] = traced(config, spec, form).module()
        state = llama(config).state_dict()
        self.weights = {name.removeprefix("model."): tensor for name, tensor in state.items()}
        self.weights[FREQUENCIES] = inverse_frequencies(config)

    def caches(self) -> dict[str, Tensor]:
        cached = (t for t in self.graph.inputs if t.name.startswith("past_"))
        return {tensor.name: torch.full(tensor.shape, GARBAGE) for tensor in cached}

    @torch.no_grad()
    def __call__(
        self, caches: dict[str, Tensor], ids: Tensor, starts: Sequence[int], rows: Sequence[int]
    ) -> Tensor:
        given = {
            names.INPUT_IDS: ids,
            names.START: torch.tensor(starts),
            names.LOGIT_ROWS: torch.tensor(rows),
            **caches,
            **self.weights,
        }
        return self.run(*(given[tensor.name] for tensor in self.graph.inputs))


def padded(ids: Tensor, length: int) -> Tensor:
    return torch.nn.functional.pad(ids, (0, length - ids.shape[1]))


@pytest.mark.parametrize(
    ("kind", "form"),
    [*((kind, INLINE) for kind in CHANGES), ("grouped", OPERATORS), ("grouped", FUSED)],
    ids=[*CHANGES, "grouped in operators", "grouped and fused"],
)
@torch.no_grad()
def test_a_padded_prefill_in_chunks_and_single_tokens_give_the_logits_of_transformers(
    kind: str, form: Form
) -> None:
    config = BASE.model_copy(update=CHANGES[kind])
    theirs = llama(config)(ids := random_ids(config, 1, NUM_TOKENS)).logits[0]
    prefill, decode = Program(config, PREFILL, form), Program(config, DECODE, form)
    caches = prefill.caches()
    for start, end in ((0, 6), (6, 9), (9, 15)):  # the one in the middle is padded
        chunk = padded(ids[:, start:end], PREFILL.seq_len)
        ours = prefill(caches, chunk, [start], [end - start - 1])
        torch.testing.assert_close(ours[0], theirs[end - 1], atol=TOLERANCE, rtol=0)
    for row in range(15, NUM_TOKENS):
        ours = decode(caches, ids[:, row : row + 1], [row], [])
        torch.testing.assert_close(ours[0], theirs[row], atol=TOLERANCE, rtol=0)


@torch.no_grad()
def test_a_chunk_padded_beyond_the_end_of_the_cache_is_right() -> None:
    ids = random_ids(GROUPED, 1, 20)
    theirs = llama(GROUPED)(ids).logits[0]
    prefill = Program(GROUPED, PREFILL, INLINE)
    caches = prefill.caches()
    for start, end in ((0, 6), (6, 12), (12, 18), (18, 20)):
        prefill_ids = padded(ids[:, start:end], PREFILL.seq_len)
        ours = prefill(caches, prefill_ids, [start], [end - start - 1])
        torch.testing.assert_close(ours[0], theirs[end - 1], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("length", [9, 7], ids=["whole", "padded"])
@torch.no_grad()
def test_what_starts_a_prompt_sees_its_own_rows_alone_and_leaves_them_to_the_others(
    length: int,
) -> None:
    theirs = llama(GROUPED)(ids := random_ids(GROUPED, 1, 9)).logits[0]
    first = Program(GROUPED, FIRST_9, program_form(FIRST_9))
    decode = Program(GROUPED, DECODE, program_form(DECODE))
    caches = first.caches()
    for cache in caches.values():
        cache[:] = float("nan")  # whoever reads them shows it
    ours = first(caches, padded(ids[:, :length], FIRST_9.seq_len), [0], [length - 1])
    torch.testing.assert_close(ours[0], theirs[length - 1], atol=TOLERANCE, rtol=0)
    for cache in caches.values():
        cache[cache.isnan()] = GARBAGE
    for row in range(length, 9):
        ours = decode(caches, ids[:, row : row + 1], [row], [])
        torch.testing.assert_close(ours[0], theirs[row], atol=TOLERANCE, rtol=0)


@every_form
@torch.no_grad()
def test_sequences_of_a_batch_are_at_different_rows_and_leave_the_others_alone(form: Form) -> None:
    ids = random_ids(GROUPED, 3, 9)
    theirs = llama(GROUPED)(ids).logits
    prefill, decode = Program(GROUPED, PREFILL, form), Program(GROUPED, DECODE_3, form)
    caches, starts = decode.caches(), [5, 3, 6]
    for row, start in enumerate(starts):
        own = {name: cache[row : row + 1] for name, cache in caches.items()}
        prefill(own, padded(ids[row : row + 1, :start], PREFILL.seq_len), [0], [start - 1])
    for step in range(3):
        at = torch.tensor(starts)[:, None] + step
        before = {name: cache.clone() for name, cache in caches.items()}
        ours = decode(caches, ids.gather(1, at), at[:, 0].tolist(), [])
        torch.testing.assert_close(ours, theirs[range(3), at[:, 0]], atol=TOLERANCE, rtol=0)
        for name, cache in caches.items():
            changed = (cache != before[name]).flatten(2).any(-1)  # (3, rows)
            assert changed.nonzero().tolist() == [
                [i, start + step] for i, start in enumerate(starts)
            ]


@every_form
@torch.no_grad()
def test_a_score_program_gives_the_logits_of_every_row(form: Form) -> None:
    ids = random_ids(GROUPED, 2, 8)
    score = Program(GROUPED, SCORE_2, form)
    caches = score.caches()
    parts = [score(caches, ids[:, start : start + 4], [start] * 2, []) for start in (0, 4)]
    theirs = llama(GROUPED)(ids).logits
    torch.testing.assert_close(torch.cat(parts, dim=1), theirs, atol=TOLERANCE, rtol=0)


def test_an_operator_of_ours_is_one_node_and_inline_there_is_none() -> None:
    layers = GROUPED.num_hidden_layers

    def own(form: Form) -> dict[str, int]:
        nodes = traced(GROUPED, DECODE, form).graph.nodes
        found = [str(node.target).split(".")[1] for node in nodes if "alpaca2" in str(node.target)]
        return {name: found.count(name) for name in found}

    assert own(OPERATORS) == {
        "rms_norm": 2 * layers + 1,
        "rotate": layers,
        "write_rows": 2 * layers,
        "attend": layers,
        "swiglu": layers,
    }
    assert own(INLINE) == {}


def test_a_program_holds_no_weight_and_a_huge_one_is_traced_without_its_memory() -> None:
    huge = GROUPED.model_copy(update={"vocab_size": 2**33})  # a table of 1.6 TB
    graph = program_graph(huge, DECODE, ROWS, "float32", "unwritten")
    program = trace_program(huge, graph, OPERATORS)
    assert not program.state_dict
    assert not program.constants
    taken = [node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"]
    assert [tuple(value.shape) for value in taken] == [tensor.shape for tensor in graph.inputs]


@pytest.mark.parametrize("name", ["rms_norm", "rotate", "attend", "swiglu", "write_rows"])
def test_an_operator_keeps_what_it_promises_to_torch(name: str) -> None:
    """Schema, mutation and shapes without data, as torch itself checks them."""
    generator = torch.Generator().manual_seed(1)

    def some(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    q, k, cache = some(2, 3, 4, 8), some(2, 3, 2, 8), some(2, 9, 2, 8)
    angles = some(2, 3, 1, 4)
    hidden = torch.arange(9) > torch.tensor([[1, 2, 3], [4, 5, 6]])[:, None, :, None]
    arguments: dict[str, tuple[object, ...]] = {
        "rms_norm": (some(2, 3, 8), some(8), 1e-5),
        "rotate": (q, k, angles, angles),
        "attend": (q, cache, cache.flip(1), hidden),
        "swiglu": (some(2, 3, 8), some(2, 3, 8)),
        "write_rows": (cache, k, torch.tensor([0, 6])),
    }
    operator = getattr(torch.ops.alpaca2, name).default
    utilities = ["test_schema", "test_faketensor"]
    torch.library.opcheck(operator, arguments[name], test_utils=utilities)
