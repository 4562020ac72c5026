"""Sums of flat arrays: every element once, and none behind the last."""

from contextlib import closing

import numpy as np
import pytest

from layers.kernels import add, threads
from layers.kernels.simd import LANES
from layers.kernels.threads import Threads


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("count", [LANES, 1 << 12, (1 << 12) + LANES, (3 << 12) - 5 * LANES])
def test_flat_arrays_of_any_length_are_added(monkeypatch, count, workers):
    monkeypatch.setattr(threads, "INLINE_WORK", 0)
    total, addend = np.random.default_rng(count).standard_normal((2, count + LANES), dtype=np.float32)
    want = np.concatenate([total[:count] + addend[:count], total[count:]])
    with closing(Threads(workers)) as shared:
        add.add_flat(shared, total[:count], addend[:count])
    assert (total == want).all()
