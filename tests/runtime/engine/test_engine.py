"""Claims about runtime.engine: whatever the graph, chunk or slot, a sequence has one answer.

The truth is each sequence run alone, one token at a time. It is itself compared between the two
sessions, whose caches and attention have nothing in common.
"""

import random
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from runtime.bundle.manifest import Graph
from runtime.bundle.reader import load_bundle
from runtime.engine.engine import Engine
from runtime.engine.kv_cache import Slot
from runtime.errors import PromptError, SessionError
from runtime.sessions import open_session
from runtime.sessions.base import Chunk, Logits, Session
from tests.runtime.engine.tolerances import TOLERANCES

CACHE_LEN, VOCAB, NUM_SLOTS = 40, 640, 5
SEQUENCES = [random.Random(seed).choices(range(VOCAB), k=CACHE_LEN) for seed in range(3)]
TOKENS = SEQUENCES[0]
# Twice the largest graph and one more; then the end of the cache, where padding does not fit.
LENGTHS = [*range(1, 18), 38, 39, 40]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    session: Session
    engine: Engine
    atol: float
    truth: list[Logits]  # per sequence (CACHE_LEN, VOCAB), the logits after each token

    def check(self, logits: Logits, expected: Logits) -> None:
        np.testing.assert_allclose(logits, expected, rtol=0, atol=self.atol)

    def check_step(self, engine: Engine, slots: list[Slot], batch: list[int]) -> None:
        """Decodes the next token of these sequences together."""
        next_rows = [(i, slots[i].length) for i in batch]
        tokens = [SEQUENCES[i][row] for i, row in next_rows]
        logits = engine.decode([slots[i] for i in batch], tokens)
        self.check(logits, np.array([self.truth[i][row] for i, row in next_rows]))


@contextmanager
def blank_slot(engine: Engine) -> Iterator[Slot]:
    """A slot that reuses nothing; its old rows are still there, to be wrongly seen."""
    with engine.slot([]) as slot:
        slot.truncate(0)
        yield slot


@contextmanager
def three_slots(engine: Engine) -> Iterator[list[Slot]]:
    with ExitStack() as stack:
        yield [stack.enter_context(blank_slot(engine)) for _ in SEQUENCES]


def one_by_one(engine: Engine, tokens: Sequence[int]) -> Logits:
    with blank_slot(engine) as slot:
        rows = [engine.prefill(slot, tokens[:1]).copy()]
        rows += [engine.decode([slot], [token])[0].copy() for token in tokens[1:]]
    return np.array(rows)


def score(engine: Engine, slot: Slot, tokens: Sequence[int]) -> Logits:
    return np.concatenate([rows.copy() for rows in engine.score(slot, tokens)])


@pytest.fixture(scope="module", params=TOLERANCES)
def model(request: pytest.FixtureRequest, bundles: Path) -> Iterator[Model]:
    with closing(open_session(load_bundle(bundles / request.param))) as session:
        engine = Engine(session)
        truth = [one_by_one(engine, tokens) for tokens in SEQUENCES]
        yield Model(session=session, engine=engine, atol=TOLERANCES[request.param], truth=truth)


def test_both_sessions_agree(bundles: Path) -> None:
    engines = [Engine(open_session(load_bundle(bundles / name))) for name in TOLERANCES]
    compiled, exported = (one_by_one(engine, TOKENS) for engine in engines)
    np.testing.assert_allclose(compiled, exported, rtol=0, atol=0.05)  # measured: 0.011
    assert compiled.std() > 1  # far from all alike


@pytest.mark.parametrize("length", LENGTHS)
def test_prefill_and_score_rows_equal_one_token_at_a_time(length: int, model: Model) -> None:
    with blank_slot(model.engine) as slot:
        model.check(model.engine.prefill(slot, TOKENS[:length]), model.truth[0][length - 1])
        assert slot.token_ids == TOKENS[:length]
        slot.truncate(0)
        model.check(score(model.engine, slot, TOKENS[:length]), model.truth[0][:length])


@pytest.mark.parametrize("length", [1, 7, 8, 13, 39])
def test_decode_and_score_go_on_after_any_prefix(length: int, model: Model) -> None:
    with blank_slot(model.engine) as slot:
        model.engine.prefill(slot, TOKENS[:length])
        while slot.room:
            model.check_step(model.engine, [slot], [0])
        slot.truncate(length)
        model.check(score(model.engine, slot, TOKENS[length:]), model.truth[0][length:])


@pytest.mark.parametrize("batch", [[1], [0, 2], [2, 1], [0, 1, 2], [2, 0, 1]])
def test_a_batch_equals_each_alone_and_spares_idle_slots(batch: list[int], model: Model) -> None:
    lengths = [3, 17, 39]  # one of them at the last row of the cache
    with three_slots(model.engine) as slots:
        for slot, tokens, length in zip(slots, SEQUENCES, lengths, strict=True):
            model.engine.prefill(slot, tokens[:length])
        for some in [batch, *([i] for i in range(3) if i not in batch)]:
            model.check_step(model.engine, slots, some)


def test_any_interleaving_of_batches_and_truncations_equals_each_alone(model: Model) -> None:
    rng = random.Random(0)
    with three_slots(model.engine) as slots:
        for slot, tokens in zip(slots, SEQUENCES, strict=True):
            model.engine.prefill(slot, tokens[: rng.randint(1, 12)])
        for _ in range(60):
            for slot in slots:
                if slot.length and (slot.room == 0 or rng.random() < 0.1):
                    slot.truncate(rng.randrange(slot.length))
            model.check_step(model.engine, slots, rng.sample(range(3), rng.randint(1, 3)))


@pytest.mark.parametrize("shared", [1, 4, 11, 20])
def test_a_shared_prefix_is_reused_and_counted_without_a_trace(shared: int, model: Model) -> None:
    engine = model.engine
    with blank_slot(engine) as slot:
        engine.prefill(slot, [*TOKENS[:shared], *SEQUENCES[1][shared:]])
        # The last token always runs, since its logits are wanted.
        for length, reused in (20, min(shared, 19)), (20, 19), (40, 20):
            before = engine.prefix_hits
            model.check(engine.prefill(slot, TOKENS[:length]), model.truth[0][length - 1])
            assert engine.prefix_hits - before == reused


def test_a_prompt_gets_the_slot_that_knows_its_beginning(model: Model) -> None:
    engine = Engine(model.session)
    with three_slots(engine) as slots:
        for slot, tokens in zip(slots, SEQUENCES, strict=True):
            engine.prefill(slot, tokens[:9])
    for i in (2, 0, 1):
        before = engine.prefix_hits
        with engine.slot(SEQUENCES[i]) as slot:
            assert slot is slots[i]
            model.check(engine.prefill(slot, SEQUENCES[i]), model.truth[i][-1])
        assert engine.prefix_hits - before == 9


def test_copied_rows_answer_like_their_source(model: Model) -> None:
    with three_slots(model.engine) as slots:
        model.engine.prefill(slots[1], SEQUENCES[1])
        model.engine.prefill(slots[2], SEQUENCES[2])
        model.session.copy_rows(source=slots[1].index, target=slots[2].index, num_rows=25)
        slots[2].truncate(0)
        slots[2].append(SEQUENCES[1][:25])
        slots[1].truncate(30)
        logits = model.engine.decode([slots[2], slots[1]], [SEQUENCES[1][25], SEQUENCES[1][30]])
        model.check(logits, model.truth[1][[25, 30]])


def test_slots_held_at_once_are_different_and_come_back_after_an_error(model: Model) -> None:
    every = model.engine.cache.slots
    for _ in range(2):
        with ExitStack() as stack:
            held = [stack.enter_context(blank_slot(model.engine)) for _ in every]
            assert {slot.index for slot in held} == set(range(NUM_SLOTS))
            with pytest.raises(SessionError, match="in use"), model.engine.slot([]):
                pass
        with pytest.raises(ZeroDivisionError), three_slots(model.engine):
            1 // 0  # noqa: B018


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ([], "the prompt has no tokens"),
        ([*TOKENS, 1], f"longer than the cache; got 41 tokens; allowed: 1 to {CACHE_LEN}"),
        ([1, VOCAB], f"no such token id; got {VOCAB}; allowed: 0 to {VOCAB - 1}"),
        ([1, -1], f"no such token id; got -1; allowed: 0 to {VOCAB - 1}"),
    ],
)
def test_a_refused_prompt_changes_nothing(prompt: list[int], message: str, model: Model) -> None:
    with blank_slot(model.engine) as slot:
        with pytest.raises(PromptError, match=message):
            list(model.engine.score(slot, prompt))
        model.engine.prefill(slot, TOKENS[:5])
        model.engine.prepare(2 * CACHE_LEN)  # which comes before the refusal
        with pytest.raises(PromptError, match=message):
            model.engine.prefill(slot, prompt)
        model.check(model.engine.decode([slot], TOKENS[5:6])[0], model.truth[0][5])
        with pytest.raises(PromptError, match="got 41 tokens") as refusal:
            list(model.engine.score(slot, TOKENS[:35]))
        assert refusal.value.code == "context_length_exceeded"


def hide(session: Session, names: tuple[str, ...]) -> SimpleNamespace:
    """A session that does not say what some graphs are for, and whose results do not last."""
    graphs, lasting = [], np.empty(0, np.float32)
    for graph in session.manifest.graphs:
        spec = graph.spec.model_copy(update={"phase": "hidden"} if graph.spec.name in names else {})
        graphs.append(graph.model_copy(update={"spec": spec}))

    def run(graph: Graph, chunks: Sequence[Chunk]) -> Logits:
        nonlocal lasting
        lasting.fill(np.nan)  # as the protocol allows: "valid until the next run"
        lasting = session.run(graph, chunks).copy()
        return lasting

    manifest = session.manifest.model_copy(update={"graphs": graphs})
    return SimpleNamespace(manifest=manifest, run=run, static_shapes=session.static_shapes)


@pytest.mark.parametrize("hidden", [("prefill_s4", "prefill_s8"), ("decode_b1",), ("decode_b3",)])
def test_the_answers_are_the_same_with_fewer_graphs(hidden: tuple[str, ...], model: Model) -> None:
    engine = Engine(hide(model.session, (*hidden, "score_s8")))
    with three_slots(engine) as slots:
        for i, slot in enumerate(slots):
            model.check(engine.prefill(slot, SEQUENCES[i][:13]), model.truth[i][12])
        model.check_step(engine, slots, [1, 2])
        model.check_step(engine, slots, [0])
        with pytest.raises(SessionError, match="no score graph") as refusal:
            list(engine.score(slots[0], [1]))
        assert refusal.value.code == "unsupported_parameter"
