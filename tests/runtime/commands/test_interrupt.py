"""Claims about Ctrl-C while an answer is made."""

import signal

import pytest

from runtime.commands.interrupt import interruptible


def test_between_short_steps_the_first_press_is_noted_and_the_second_raises() -> None:
    with interruptible() as interrupt:
        interrupt.steps_are_short = True
        signal.raise_signal(signal.SIGINT)
        assert interrupt.wanted
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_in_a_long_step_the_first_press_raises() -> None:
    with interruptible() as interrupt, pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert not interrupt.wanted


def test_afterwards_the_signal_does_what_it_did() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interruptible():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_a_program_that_ignores_the_signal_goes_on() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interruptible() as interrupt:
            signal.raise_signal(signal.SIGINT)
        assert not interrupt.wanted
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
