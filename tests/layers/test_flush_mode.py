"""Subnormal numbers are zero between the two ends of the mode, and kept around it."""

import numpy as np
from numba import float32, int64

from layers.kernels.flush_mode import begin_flushing, end_flushing
from layers.kernels.jit import kernel

SMALLEST = np.finfo(np.float32).tiny  # of the normal numbers


@kernel(int64, int64, int64, float32[::1], float32[::1], float32[:, ::1])
def scale_in_both_modes(worker, first, last, values, factor, scaled):  # noqa: ARG001
    for at in range(first, last):
        scaled[0, at] = values[at] * factor[0]
    begin_flushing()
    for at in range(first, last):
        scaled[1, at] = values[at] * factor[0]
    end_flushing()
    for at in range(first, last):
        scaled[2, at] = values[at] * factor[0]


def _scaled(values: list[float], factor: float) -> list[list[float]]:
    given = np.resize(np.array(values, np.float32), 64)
    scaled = np.full((3, len(given)), np.nan, np.float32)
    scale_in_both_modes(0, 0, len(given), given, np.array([factor], np.float32), scaled)
    return [row[: len(values)].tolist() for row in scaled]


def test_results_are_flushed_inside_the_mode_only() -> None:
    before, inside, after = _scaled([SMALLEST, -SMALLEST, 2 * SMALLEST], 0.5)
    assert before == after == [SMALLEST / 2, -SMALLEST / 2, SMALLEST]
    assert inside == [0, 0, SMALLEST]


def test_operands_are_flushed_inside_the_mode_only() -> None:
    before, inside, after = _scaled([SMALLEST / 2, -SMALLEST / 2], 4)
    assert before == after == [2 * SMALLEST, -2 * SMALLEST]
    assert inside == [0, 0]
