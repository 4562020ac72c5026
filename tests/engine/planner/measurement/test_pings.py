"""Costs of messages between two ranks."""

import time

import pytest

from comm.threads import run_ranks
from engine.planner.measurement import pings
from engine.planner.measurement.pings import Pings, ping


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """Measure little: the figures are not looked at closely."""
    for name, value in (("_PINGS", 8), ("_ROUNDS", 64), ("_BURST", 16), ("_LATE_S", 0.01)):
        monkeypatch.setattr(pings, name, value)


def test_both_ranks_get_the_same_costs_and_none_is_negative():
    one, other = run_ranks(2, lambda world: ping(world, seconds=0.01))
    assert one == other
    assert one.bytes_per_s > 0
    assert one.latency_s > 0
    assert 0 < one.polling < 1
    assert min(one.message_s, one.processor_s_per_byte, one.poll_s) >= 0


def test_a_slow_network_shows_in_latency_and_bandwidth():
    delay_s = 5e-3
    found, _ = run_ranks(2, lambda world: ping(world, seconds=0.0), lambda: time.sleep(delay_s))
    assert found.latency_s >= delay_s
    assert found.bytes_per_s <= pings.CHUNK_BYTES / delay_s  # each chunk is held up by so much
    assert found.message_s < delay_s  # asleep is not at work


def test_the_mean_of_two_is_taken_for_each_cost():
    found = pings.mean([Pings(1, 2, 3, 4, 5, 0.1), Pings(3, 2, 5, 0, 6, 0.1)])
    assert found == Pings(2, 2, 4, 2, 5.5, 0.1)
