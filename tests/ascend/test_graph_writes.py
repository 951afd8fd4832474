"""Graphs that write the cache by themselves: the session says where, and moves no row."""

from collections.abc import Sequence
from contextlib import ExitStack, closing
from functools import partial

import numpy as np
import pytest

from runtime.bundle.reader import Bundle
from runtime.engine.engine import Engine
from runtime.sessions import open_session
from runtime.sessions.base import Logits
from tests.ascend.air_decoder import CACHE_LEN, CONFIG, air_bundle, expected_logits
from tests.ascend.any_fault import check_any_fault
from tests.ascend.tokens import Card
from tests.emulator.device import Emulator

PROMPT = [5, 6, 7, 8, 9, 10]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return air_bundle(tmp_path_factory.mktemp("air"))


def assert_said(logits: Logits, token_ids: Sequence[int]) -> None:
    """What a sequence of these tokens gives, in float16."""
    assert np.abs(logits - expected_logits(token_ids)).max() < 0.05


def test_a_prompt_and_its_answer_to_the_end_of_the_cache(bundle: Bundle, card: Card) -> None:
    """Chunks of four, the last one with padding; then as many tokens as there is room for."""
    card(soc_name="Ascend910B3")
    said = list(PROMPT)
    with closing(open_session(bundle)) as session:
        engine = Engine(session)
        with engine.slot(PROMPT) as slot:
            assert_said(engine.prefill(slot, PROMPT), said)
            while len(said) < CACHE_LEN:
                said.append(3 * len(said) % CONFIG.vocab_size)
                assert_said(engine.decode([slot], said[-1:])[0], said)


def test_a_token_sends_three_numbers_and_fetches_logits(bundle: Bundle, card: Card) -> None:
    emulator = card(soc_name="Ascend910B3")
    with closing(open_session(bundle)) as session:
        engine = Engine(session)
        with engine.slot(PROMPT) as slot:
            engine.prefill(slot, PROMPT)
            emulator.reset_counters()
            engine.decode([slot], [7])
            assert emulator.transfers == {"H2D": 3 * 8, "D2H": 4 * CONFIG.vocab_size}
            assert emulator.calls == {
                "rt.set_context": 1,
                "rt.memcpy_async": 3 + 1,
                "mdl.execute_async": 1,
                "rt.synchronize_stream": 1,
            }


@pytest.mark.parametrize("waiting", [1, 6, CACHE_LEN - 1])
def test_a_row_that_waits_in_a_batch_loses_nothing(
    waiting: int, bundle: Bundle, card: Card
) -> None:
    """One sequence of three waits in the middle, with little in its slot, more, or all but one."""
    card(soc_name="Ascend910B3")
    said = [[5, 6, 7], [(5 * i + 3) % CONFIG.vocab_size for i in range(waiting)], [9, 8]]
    with closing(open_session(bundle)) as session, ExitStack() as stack:
        engine = Engine(session, reuse_prefix=False)
        slots = [stack.enter_context(engine.slot(ids)) for ids in said]
        for slot, ids in zip(slots, said, strict=True):
            engine.prefill(slot, ids)
        for token in (11, 12, 13):
            rows = engine.decode([slots[0], slots[2]], [token, token + 10])
            said[0].append(token)
            said[2].append(token + 10)
            assert_said(rows[0], said[0])
            assert_said(rows[1], said[2])
        rows = engine.decode(slots, [30, 31, 32])
        for row, ids, token in zip(rows, said, (30, 31, 32), strict=True):
            assert_said(row, [*ids, token])


def test_a_shared_prefix_is_copied_and_only_then(bundle: Bundle, card: Card) -> None:
    emulator = card(soc_name="Ascend910B3")
    with closing(open_session(bundle)) as session:
        engine = Engine(session)
        with engine.slot(PROMPT) as first:
            engine.prefill(first, PROMPT)
            with engine.slot([*PROMPT[:4], 30, 31]) as second:
                row = 2 * CONFIG.head_dim * 2
                assert emulator.transfers["D2D"] == 4 * row
                assert_said(engine.prefill(second, [*PROMPT[:4], 30, 31]), [*PROMPT[:4], 30, 31])
                assert emulator.transfers["D2D"] == 4 * row


def script(bundle: Bundle) -> Logits:
    """Load, generate alone and beside another sequence, copy a prefix, close."""
    with closing(open_session(bundle)) as session:
        engine = Engine(session)
        with engine.slot(PROMPT) as first, engine.slot(PROMPT[:2]) as second:
            engine.prefill(first, PROMPT)
            engine.decode([first], [7])
            engine.prefill(second, PROMPT[:2])
            logits = engine.decode([first, second], [8, 9])
        session.copy_rows(0, 1, 2)
    return logits


def test_any_call_may_fail(bundle: Bundle) -> None:
    def new_card(patch: pytest.MonkeyPatch) -> Emulator:
        emulator = Emulator("Ascend910B3")
        emulator.install(patch)
        return emulator

    check_any_fault(new_card, partial(script, bundle))


def test_rows_in_the_manifest_are_what_the_card_has_room_for(bundle: Bundle, card: Card) -> None:
    """Padding at the end of a slot needs three rows more than the longest sequence."""
    emulator = card(soc_name="Ascend910B3")
    with closing(open_session(bundle)):
        sizes = [each.size for each in emulator.state.memory.device.values()]
        assert sizes.count(4 * (CACHE_LEN + 4) * CONFIG.head_dim * 2) == 2
