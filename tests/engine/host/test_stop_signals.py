"""Signals become a wish to end."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from engine.host import stop_signals as module
from engine.host.stop_signals import WISHES, stop_signals

ROOT = Path(__file__).parents[3]


def handlers():
    return [signal.getsignal(number) for number in WISHES]


def send(number):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", WISHES)
def test_a_signal_is_a_wish_and_repeated_ones_change_nothing(number):
    with stop_signals() as stop:
        assert not stop.made
        for again in (number, number, *WISHES):
            send(again)
            assert stop.made


@pytest.mark.parametrize("number", WISHES)
def test_only_a_second_ctrl_c_later_than_a_second_is_in_earnest(monkeypatch, number):
    monkeypatch.setattr(module, "IMPATIENT_S", 0.05)
    with stop_signals() as stop:
        send(signal.SIGINT)
        send(signal.SIGINT)
        time.sleep(0.1)
        assert stop.made
        if number != signal.SIGINT:
            send(number)
            return
        with pytest.raises(KeyboardInterrupt):
            send(number)
        send(number)  # while the exception is on its way


def test_a_ctrl_c_long_after_another_wish_is_a_first_one(monkeypatch):
    monkeypatch.setattr(module, "IMPATIENT_S", 0.01)
    with stop_signals():
        send(signal.SIGTERM)
        time.sleep(0.05)
        send(signal.SIGINT)


def test_sighup_stays_ignored_where_it_was_at_the_start():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_signals() as stop:
            send(signal.SIGHUP)
            assert not stop.made
            send(signal.SIGUSR1)
            assert stop.made
    finally:
        signal.signal(signal.SIGHUP, before)


def test_signals_are_answered_as_before_afterwards():
    before = handlers()
    with pytest.raises(ZeroDivisionError), stop_signals():
        assert handlers() != before
        raise ZeroDivisionError
    assert handlers() == before


def test_off_the_main_thread_signals_are_left_alone():
    before = handlers()
    seen = []

    def work() -> None:
        with stop_signals() as stop:
            seen.append((stop.made, handlers()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, before)]


BEGIN = "import os, signal, sys, time; from engine.host.stop_signals import *; listen(); "
SEND = "[os.kill(os.getpid(), {0}) for _ in range(2)]"


def command(code, number=signal.SIGTERM, **environment):
    return subprocess.run(
        [sys.executable, "-c", BEGIN + code.replace("SEND", SEND.format(int(number)))],
        cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=20,
    )  # fmt: skip


@pytest.mark.parametrize("number", WISHES)
def test_a_command_ends_at_once_before_its_loop(number):
    done = command("SEND\nprint('went on')", number)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


@pytest.mark.parametrize("swallow", ["BaseException", "KeyboardInterrupt"])
def test_nothing_swallows_a_wish(swallow):
    done = command(f"exec('try: SEND\\nexcept {swallow}: pass'); print('went on')")
    assert (done.returncode, done.stdout) == (130, "")


def test_another_rank_speaks_if_rank_0_does_not():
    done = command("SEND", OMPI_COMM_WORLD_RANK="1")
    assert (done.returncode, done.stderr) == (130, "interrupted\n")


@pytest.mark.parametrize("number", WISHES)
def test_in_the_loop_a_command_is_asked_and_afterwards_left_alone(number):
    code = "\nwith stop_signals() as stop:\n    SEND\n    print(stop.made)\nSEND\nsys.exit(5)"
    done = command(code, number)
    assert (done.returncode, done.stdout, done.stderr) == (5, "True\n", "")


def test_a_signal_while_the_interpreter_ends_changes_nothing():
    code = "\nwith stop_signals(): pass\nclass Last:\n    def __del__(self, kill=os.kill, me=os.getpid()): "
    code += "[kill(me, n) for n in (2, 15, 10)]\nsys.last = Last(); sys.exit(5)"
    done = command(code)
    assert (done.returncode, done.stderr) == (5, "")


def test_wishes_are_held_once_a_run_has_something_to_lose():
    done = command("hold_wishes(); SEND\nprint(is_asked_to_end(), flush=True); end_now()")
    assert (done.returncode, done.stdout, done.stderr) == (130, "True\n", "interrupted\n")


def test_the_other_ranks_are_ended_too():
    done = command("end_others_by(lambda: print('all', flush=True)); SEND")
    assert (done.returncode, done.stdout) == (130, "all\n")


def test_a_soft_limit_of_cpu_time_is_a_wish_to_end():
    spin = "import resource; from engine.host.stop_signals import stop_signals\n"
    spin += "resource.setrlimit(resource.RLIMIT_CPU, (1, 20))\n"
    spin += "with stop_signals() as stop:\n    while not stop.made: pass\nprint('stopped')"
    done = subprocess.run(
        [sys.executable, "-c", spin], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "stopped\n"), done.stderr
