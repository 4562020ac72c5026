"""SGD on strips, against its formula in float64."""

import numpy as np
import pytest

from engine.config.recipe import OptimizerFields
from engine.training.optimizer import SGD


def expected(weights, gradients, velocity, rate, sgd):
    weights, gradients, velocity = (array.astype(np.float64) for array in (weights, gradients, velocity))
    gradients = gradients + sgd.weight_decay * weights
    velocity = sgd.momentum * velocity + gradients
    return weights - rate * (gradients + sgd.momentum * velocity if sgd.nesterov else velocity), velocity


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_update_follows_the_formula(momentum, weight_decay, nesterov):
    rng = np.random.default_rng(0)
    weights, gradients, velocity = rng.standard_normal((3, 1003)).astype(np.float32)
    sgd = SGD(momentum, nesterov, weight_decay)
    want_weights, want_velocity = expected(weights, gradients, velocity, 0.1, sgd)
    sgd.update(weights, gradients, velocity, 0.1)
    np.testing.assert_allclose(weights, want_weights, rtol=1e-5, atol=1e-6)  # a few float32 roundings
    np.testing.assert_allclose(velocity, want_velocity, rtol=1e-5, atol=1e-6)


def test_defaults_are_those_of_a_recipe():
    usual, weights = SGD(), np.ones(3, np.float32)
    assert usual == SGD(**vars(OptimizerFields()))
    usual.update(weights, 0 * weights, 0 * weights, 0.1)
    assert (weights == 1).all()


def test_where_a_strip_is_cut_changes_no_bit():
    rng = np.random.default_rng(1)
    start = rng.standard_normal((3, 4096)).astype(np.float32)
    sgd = SGD(0.9, True, 1e-4)
    whole = start.copy()
    sgd.update(*whole, 0.1)
    for cut in (1, 7, 16, 1000, 4095):
        parts = start.copy()
        sgd.update(*(row[:cut] for row in parts), 0.1)
        sgd.update(*(row[cut:] for row in parts), 0.1)
        assert parts.tobytes() == whole.tobytes()


def test_nothing_asked_is_momentum_alone():
    assert SGD() == SGD(momentum=0.9, nesterov=False, weight_decay=0.0)
