"""Dropout's random numbers."""

import numpy as np
from numpy.typing import NDArray

from layers.dropout import Dropout
from layers.reference import Problem, dropout
from tests.layers import harness


def _of_ones(
    layer: Dropout, samples: list[int], features: int = 1000, training: bool = True
) -> NDArray[np.float32]:
    ones = np.ones((len(samples), features))
    random = harness.SEED, harness.STEP, harness.KEY
    given = Problem((ones,), {}, (ones,), np.array(samples, np.int64), *random)
    result = harness.run(layer, given, training=training)
    np.testing.assert_array_equal(result.y[0].plain(), result.dx[0].plain())
    return result.y[0].plain()


def test_outside_training_nothing_is_dropped() -> None:
    assert (_of_ones(Dropout(0.5), [3, 4], training=False) == 1).all()


def test_the_kept_share_is_scaled_to_the_same_mean() -> None:
    y = _of_ones(Dropout(0.75), list(range(100)))
    assert set(np.unique(y)) == {0, 4}
    assert abs(y.mean() - 1) < 4 * np.sqrt(3 / y.size)  # four standard deviations


def test_a_sample_has_the_same_mask_wherever_it_stands() -> None:
    y = _of_ones(Dropout(0.5), [7, 9, 7])
    np.testing.assert_array_equal(y[0], y[2])
    assert (y[0] != y[1]).mean() > 0.4


def test_neighbours_are_not_correlated() -> None:
    kept = _of_ones(Dropout(0.5), list(range(200))) - 1  # -1 or 1
    bound = 4 / np.sqrt(kept.size)
    assert abs((kept[:, 1:] * kept[:, :-1]).mean()) < bound
    assert abs((kept[1:] * kept[:-1]).mean()) < bound
    assert abs((kept[:, 16:] * kept[:, :-16]).mean()) < bound


def test_seed_step_sample_and_node_all_change_the_mask() -> None:
    first = dropout.mask(1000, 0.5, 1, 2, 3, 4)
    for other in ((2, 2, 3, 4), (1, 3, 3, 4), (1, 2, 4, 4), (1, 2, 3, 5), (2, 1, 3, 4)):
        assert 0.4 < (dropout.mask(1000, 0.5, *other) != first).mean() < 0.6
