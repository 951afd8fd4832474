"""Every call of the driver fails once: named, given back, and no harm to the next session."""

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from runtime.errors import SessionError
from tests.emulator.device import Emulator

NewCard = Callable[[pytest.MonkeyPatch], Emulator]
Script = Callable[[], np.ndarray]  # the life of a session; gives logits


def assert_clean(emulator: Emulator) -> None:
    assert (emulator.violations, emulator.leaks(), emulator.freed_by_reset) == ([], [], [])


def check_any_fault(new_card: NewCard, script: Script) -> Counter[str]:
    """Fails each k of each call of the driver in turn, on a card of its own.

    Returns:
        How often the script makes each call.
    """
    with pytest.MonkeyPatch.context() as patch:
        emulator = new_card(patch)
        expected = script()
        assert_clean(emulator)
    calls = Counter(emulator.calls)
    for function, count in calls.items():
        for k in range(1, count + 1):
            with pytest.MonkeyPatch.context() as patch:
                emulator = new_card(patch)
                emulator.fail_at(function, k)
                with pytest.raises(SessionError) as caught:
                    script()
                assert function.removeprefix("acl") in str(caught.value), (function, k)
                assert_clean(emulator)
                assert np.array_equal(script(), expected)
                assert_clean(emulator)
    return calls
