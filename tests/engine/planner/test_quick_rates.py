"""What a rank's threads can do, measured quickly."""

from contextlib import closing

import numpy as np
import pytest

from engine.planner.measurement import quick_rates as module
from engine.planner.measurement.quick_rates import quick_rates
from layers.kernels import peak
from layers.kernels.simd import LANES
from layers.kernels.threads import Threads


@pytest.fixture
def threads():
    with closing(Threads(2)) as found:
        yield found


@pytest.mark.parametrize(
    ("wanted", "copied"), [(0, 1 << 16), (1 << 20, 1 << 20), (10**6, 999_424), (1 << 40, 1 << 24)]
)
def test_as_much_is_copied_as_is_asked_for_within_bounds(threads, monkeypatch, wanted, copied):
    monkeypatch.setattr(module, "_STEPS", 10)
    rates = quick_rates(threads, bytes_copied=wanted)
    assert rates.copied_bytes == copied
    assert np.isfinite([rates.flops_per_s, rates.memory_bytes_per_s]).all()
    assert min(rates.flops_per_s, rates.memory_bytes_per_s) > 0


def test_the_flop_of_the_peak_loop_are_those_of_its_multiply_adds():
    assert peak.flops(tasks=3, steps=5) == 2 * LANES * peak.ACCUMULATORS * 5 * 3


def test_more_steps_take_longer(threads):
    """Nothing is optimised away: a hundred times as many steps take ten times as long at least."""
    into = peak.new_sink(threads)
    peak.run(threads, 8, 1, into)
    few = module._least(lambda: peak.run(threads, 8, 2_000, into), 5)
    many = module._least(lambda: peak.run(threads, 8, 200_000, into), 5)
    assert many > 10 * few
    assert into.any()
