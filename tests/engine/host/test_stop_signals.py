"""Signals become a stop request."""

import os
import signal
import threading

import pytest

from engine.host.stop_signals import StopRequest, stop_signals

NUMBERS = (signal.SIGINT, signal.SIGTERM)


@pytest.mark.parametrize("number", NUMBERS)
def test_the_first_signal_is_a_request_and_the_second_interrupts(number):
    with stop_signals() as stop:
        assert stop == StopRequest(made=False)
        os.kill(os.getpid(), number)
        assert stop == StopRequest(made=True)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)


def test_signals_are_answered_as_before_afterwards():
    before = [signal.getsignal(number) for number in NUMBERS]
    with pytest.raises(ZeroDivisionError), stop_signals():
        assert [signal.getsignal(number) for number in NUMBERS] != before
        raise ZeroDivisionError
    assert [signal.getsignal(number) for number in NUMBERS] == before


def test_off_the_main_thread_signals_are_left_alone():
    before = [signal.getsignal(number) for number in NUMBERS]
    seen = []

    def work() -> None:
        with stop_signals() as stop:
            seen.append((stop.made, [signal.getsignal(number) for number in NUMBERS]))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, before)]
