"""Clocks that differ are brought together."""

import time
from itertools import chain, repeat

import pytest

from comm.clock import Alignment, Reading, read_clock
from comm.threads import run_ranks


@pytest.mark.parametrize("ranks", [1, 2, 5])
def test_the_offset_of_each_rank_is_found_within_its_bound(ranks):
    def work(world):
        return read_clock(world, clock=lambda: time.perf_counter() + 1000.0 * world.rank)

    for rank, reading in enumerate(run_ranks(ranks, work)):
        assert abs(reading.offset - 1000.0 * rank) <= reading.error
        assert reading.at >= 1000.0 * rank
        assert reading.error < 10.0


def test_the_root_keeps_its_own_time():
    root, _ = run_ranks(2, read_clock)
    assert Alignment(root, root).to_root(12.5) == 12.5


def test_a_clock_that_runs_fast_is_brought_back_along_a_straight_line():
    # One second behind when the root shows 100, and 2 ms more when it shows 300.
    alignment = Alignment(Reading(99.0, -1.0, 1e-5), Reading(298.998, -1.002, 3e-5))
    assert alignment.to_root(99.0) == pytest.approx(100.0, abs=1e-9)
    assert alignment.to_root(298.998) == pytest.approx(300.0, abs=1e-9)
    assert alignment.to_root((99.0 + 298.998) / 2) == pytest.approx(200.0, abs=1e-9)
    assert alignment.to_root(98.0) == pytest.approx(99.0)
    assert alignment.to_root(299.998) == pytest.approx(301.0)
    assert alignment.error == 3e-5


def test_a_drift_within_the_error_is_none():
    alignment = Alignment(Reading(100.0, 5.00003, 4e-5), Reading(101.0, 5.00001, 1e-5))
    assert alignment.to_root(100.5) - alignment.to_root(100.25) == 0.25
    assert alignment.to_root(100.5) == 100.5 - 5.00001


def test_the_quickest_of_twenty_round_trips_is_kept():
    asked = [100.0 * ping for ping in range(20)]
    trips = [4.0 + (ping - 7) ** 2 for ping in range(20)]
    root = [moment for start, trip in zip(asked, trips, strict=True) for moment in (start, start + trip)]
    peer = [start + trip / 2 + 5000.0 for start, trip in zip(asked, trips, strict=True)]

    def work(world):
        times = chain(peer if world.rank else root, repeat(7.0))
        return read_clock(world, clock=lambda: next(times))

    own, others = run_ranks(2, work)
    assert own == Reading(7.0, 0.0, 0.0)
    assert others == Reading(5702.0, 5000.0, 2.0)


def test_a_drift_as_large_as_both_errors_is_none_and_a_larger_one_is():
    first, last = Reading(0.0, 1.0, 0.25), Reading(10.0, 1.75, 0.5)
    assert Alignment(first, last).to_root(10.0) == 9.0
    assert Alignment(first, Reading(10.0, 2.0, 0.5)).to_root(10.0) == 8.0


def test_the_drift_is_not_continued_beyond_the_two_readings() -> None:
    alignment = Alignment(Reading(100.0, 1.0, 1e-5), Reading(200.0, 3.0, 1e-5))
    assert [alignment.to_root(moment) for moment in (50.0, 100.0, 150.0, 200.0, 300.0)] == [
        49,
        99,
        148,
        197,
        297,
    ]
