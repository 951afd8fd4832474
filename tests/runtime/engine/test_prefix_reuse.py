"""Claims about reused rows: same bits where a prompt says what it shares, and never a stale row."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import pytest

from runtime.bundle.reader import load_bundle
from runtime.engine.engine import Engine
from runtime.errors import SessionError
from runtime.sessions import open_session
from runtime.sessions.base import Logits, Session
from tests.runtime.engine.tolerances import TOLERANCES

SEQUENCES = [Random(seed).choices(range(640), k=40) for seed in range(3)]
TOKENS = SEQUENCES[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    session: Session
    atol: float

    def check(self, logits: Logits, expected: Logits) -> None:
        np.testing.assert_allclose(logits, expected, rtol=0, atol=self.atol)

    def alone(self, tokens: Sequence[int]) -> Logits:
        """The logits after these tokens, run alone in the last slot."""
        engine = Engine(self.session, reuse_prefix=False)
        with ExitStack() as stack:
            *_, last = [stack.enter_context(engine.slot(tokens)) for _ in SEQUENCES]
            return engine.prefill(last, tokens)


@pytest.fixture(scope="module", params=TOLERANCES)
def model(request: pytest.FixtureRequest, bundles: Path) -> Iterator[Model]:
    with closing(open_session(load_bundle(bundles / request.param))) as session:
        yield Model(session=session, atol=TOLERANCES[request.param])


@pytest.mark.parametrize("shared", [1, 4, 11, 20])
def test_what_a_prompt_says_it_shares_is_run_once_and_changes_no_bit(
    shared: int, model: Model
) -> None:
    """Without and with reuse, in any slot, whatever the slot held: the same bits."""
    prompts = [[*TOKENS[:shared], *tokens[shared:30]] for tokens in SEQUENCES]

    def run(engine: Engine, prompt: list[int]) -> Logits:
        with engine.slot(prompt) as slot:
            return engine.prefill(slot, prompt, shared)

    without = Engine(model.session, reuse_prefix=False)
    expected = [run(without, prompt) for prompt in prompts]
    for logits, prompt in zip(expected, prompts, strict=True):
        model.check(logits, model.alone(prompt))
    assert (without.prefix_prompts, without.computed_tokens) == (0, 90)
    engine = Engine(model.session)
    with engine.slot(SEQUENCES[1]) as held:  # so that rows are copied to another slot
        engine.prefill(held, prompts[1], shared)
        for i in (0, 2, 1, 0):
            np.testing.assert_array_equal(run(engine, prompts[i]), expected[i], strict=True)
    for i in (1, 2):
        np.testing.assert_array_equal(run(engine, prompts[i]), expected[i], strict=True)
    # Only the first of seven prompts computed what they share.
    assert (engine.prefix_prompts, engine.prefix_hits) == (6, 6 * shared)
    assert engine.computed_tokens == 7 * 30 - 6 * shared


def test_shared_rows_are_reused_only_as_they_were_cut(model: Model) -> None:
    engine = Engine(model.session)
    with engine.slot(TOKENS) as slot:
        for shared, reused in (8, 0), (8, 8), (5, 0), (5, 5), (0, 29), (5, 0), (5, 5), (99, 0):
            before = engine.prefix_hits
            model.check(engine.prefill(slot, TOKENS[:30], shared), model.alone(TOKENS[:30]))
            assert engine.prefix_hits - before == reused
        slot.truncate(3)
        assert slot.shared == 0
        engine.prefill(slot, TOKENS[:30], 5)
    assert slot.token_ids == TOKENS[:5]  # given back, it keeps what is shared


def test_a_failed_copy_leaves_no_row_that_is_not_there(model: Model) -> None:
    """The slot used to go on claiming the rows that were being written over."""
    engine = Engine(model.session)
    with ExitStack() as stack:
        for tokens in SEQUENCES:
            engine.prefill(stack.enter_context(engine.slot(tokens)), tokens[:9])

    copy_rows = model.session.copy_rows

    def fail(source: int, target: int, num_rows: int) -> None:
        copy_rows(source, target, num_rows)
        raise SessionError("the device is gone")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model.session, "copy_rows", fail)
        with pytest.raises(SessionError, match="is gone"):
            engine.slot([*SEQUENCES[1][:8], *TOKENS]).__enter__()
    last = SEQUENCES[2][:12]  # what the slot held that was written over: the first to be freed
    with engine.slot(last) as slot:
        logits = engine.prefill(slot, last)
    model.check(logits, model.alone(last))
