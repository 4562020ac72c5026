"""The naive trainer against finite differences and a hand calculation."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests import naive

Array = NDArray[np.float64]

NETWORK: list[dict[str, Any]] = [
    {"name": "conv1", "op": "conv", "inputs": ["input"], "stride": 1, "padding": (1, 1)},
    {"name": "relu1", "op": "relu", "inputs": ["conv1"]},
    {"name": "conv2", "op": "conv", "inputs": ["relu1"], "stride": 1, "padding": (1, 1)},
    {"name": "sum", "op": "add", "inputs": ["relu1", "conv2"]},
    {"name": "conv3", "op": "conv", "inputs": ["sum"], "stride": 2, "padding": (0, 1)},
    {"name": "conv4", "op": "conv", "inputs": ["sum"], "stride": 2, "padding": (0, 1)},
    {"name": "both", "op": "concat", "inputs": ["conv3", "conv4"]},
    {"name": "pool1", "op": "max_pool", "inputs": ["both"], "window": (3, 2), "stride": 1, "padding": 1},
    {"name": "pool2", "op": "avg_pool", "inputs": ["pool1"], "window": (2, 2), "stride": 1},
    {"name": "norm", "op": "batch_norm", "inputs": ["pool2"], "groups": 2, "epsilon": 1e-3, "scaled": True},
    {"name": "flat", "op": "flatten", "inputs": ["norm"]},
    {"name": "shift", "op": "batch_norm", "inputs": ["flat"], "groups": 1, "epsilon": 0.1, "scaled": False},
    {"name": "group", "op": "group_norm", "inputs": ["shift"], "groups": 3, "epsilon": 0.1},
    {"name": "fc1", "op": "linear", "inputs": ["group"]},
    {"name": "sigmoid", "op": "sigmoid", "inputs": ["fc1"]},
    {"name": "fc2", "op": "linear", "inputs": ["sigmoid"]},
]


def _draw() -> tuple[naive.Weights, Array, NDArray[np.int64]]:
    generator = np.random.default_rng(0)
    shapes = {
        "conv1": (4, 2, 3, 3),
        "conv2": (4, 4, 3, 3),
        "conv3": (3, 4, 3, 3),
        "conv4": (2, 4, 3, 3),
        "fc1": (6, 5 * 1 * 3),
        "fc2": (5, 6),
    }
    weights: naive.Weights = {}
    for name, shape in shapes.items():
        weights[name, "weight"] = 0.5 * generator.standard_normal(shape)
        weights[name, "bias"] = 0.1 * generator.standard_normal(shape[0])
    weights["norm", "weight"], weights["norm", "bias"] = generator.standard_normal((2, 5))
    weights["shift", "bias"] = generator.standard_normal(5 * 1 * 3)
    weights["group", "weight"], weights["group", "bias"] = generator.standard_normal((2, 5 * 1 * 3))
    return weights, generator.standard_normal((4, 2, 5, 6)), generator.integers(0, 5, 4)


def test_gradients_equal_finite_differences() -> None:
    weights, x, labels = _draw()
    _, gradients = naive.loss_and_gradients(NETWORK, weights, x, labels)
    assert gradients.keys() == weights.keys()
    generator = np.random.default_rng(1)
    for key, gradient in gradients.items():
        direction = generator.standard_normal(gradient.shape)
        up, down = (
            naive.loss_and_gradients(NETWORK, {**weights, key: weights[key] + h * direction}, x, labels)[0]
            for h in (1e-6, -1e-6)
        )
        # The loss is rounded to about 2e-16, divided by the step of 2e-6.
        np.testing.assert_allclose((up - down) / 2e-6, np.vdot(gradient, direction), rtol=1e-6, atol=1e-9)


def test_the_loss_of_equal_logits_is_the_logarithm_of_the_classes() -> None:
    weights = {("fc", "weight"): np.zeros((4, 3)), ("fc", "bias"): np.zeros(4)}
    network: list[dict[str, Any]] = [{"name": "fc", "op": "linear", "inputs": ["input"]}]
    loss, gradients = naive.loss_and_gradients(network, weights, np.ones((2, 3)), np.array([0, 0]))
    assert loss == pytest.approx(np.log(4))
    np.testing.assert_allclose(gradients["fc", "bias"], [-0.75, 0.25, 0.25, 0.25])


def test_weights_of_classes_multiply_what_is_wanted_of_each() -> None:
    weights, x, _ = _draw()
    for label, weight in enumerate((0.5, 2.0, 1.0, 0.0, 3.0)):
        labels = np.full(4, label)
        plain, slopes = naive.loss_and_gradients(NETWORK, weights, x, labels)
        loss, gradients = naive.loss_and_gradients(
            NETWORK, weights, x, labels, class_weights=(0.5, 2.0, 1.0, 0.0, 3.0)
        )
        assert loss == pytest.approx(weight * plain)
        for key, slope in slopes.items():
            np.testing.assert_allclose(gradients[key], weight * slope, rtol=1e-9, atol=1e-12)


def test_weighted_gradients_of_smoothed_labels_equal_finite_differences() -> None:
    weights, x, labels = _draw()
    rules: dict[str, Any] = {"label_smoothing": 0.2, "class_weights": (0.5, 2.0, 1.0, 0.0, 3.0)}
    _, gradients = naive.loss_and_gradients(NETWORK, weights, x, labels, **rules)
    key = ("fc2", "weight")
    direction = np.random.default_rng(1).standard_normal(weights[key].shape)
    up, down = (
        naive.loss_and_gradients(NETWORK, {**weights, key: weights[key] + h * direction}, x, labels, **rules)
        for h in (1e-6, -1e-6)
    )
    np.testing.assert_allclose((up[0] - down[0]) / 2e-6, np.vdot(gradients[key], direction), rtol=1e-6)


def test_samples_are_drawn_by_the_weight_of_their_class() -> None:
    labels = np.array([0, 2, 2, 0, 2, 2])
    quarter = 1 << 62
    words = [0, 0, 0, 3, 2 * quarter - 1, 0, 2 * quarter, 0, 2 * quarter, 2, 4 * quarter - 1, 7]
    assert naive.balanced(labels, 3) == [1.5, 1.0, 0.75]
    assert naive.drawn_samples(labels, naive.balanced(labels, 3), words) == [0, 3, 0, 1, 4, 5]
    assert naive.drawn_samples(labels, (0.0, 1.0, 1.0), words[:2]) == [1]
    assert naive.mean_one((3.0, 9.0, 0.0), labels) == [3.0, 9.0, 0.0]


@pytest.mark.parametrize("nesterov", [False, True])
def test_two_steps_follow_the_rule_by_hand(nesterov: bool) -> None:
    weights, x, labels = _draw()
    rates, momentum, decay = [0.1, 0.05], 0.9, 0.01
    losses, trained = naive.train(NETWORK, weights, [(x, labels)] * 2, rates, momentum, nesterov, decay)
    key = ("conv2", "weight")
    loss, first = naive.loss_and_gradients(NETWORK, weights, x, labels)
    assert losses[0] == loss
    _, once = naive.train(NETWORK, weights, [(x, labels)], rates[:1], momentum, nesterov, decay)
    g1 = first[key] + decay * weights[key]
    w1 = weights[key] - rates[0] * (1 + momentum * nesterov) * g1
    np.testing.assert_allclose(once[key], w1, rtol=1e-12)
    g2 = naive.loss_and_gradients(NETWORK, once, x, labels)[1][key] + decay * w1
    v2 = momentum * g1 + g2
    w2 = w1 - rates[1] * (g2 + momentum * v2 if nesterov else v2)
    np.testing.assert_allclose(trained[key], w2, rtol=1e-12)


def test_training_reduces_the_loss() -> None:
    weights, x, labels = _draw()
    losses, _ = naive.train(NETWORK, weights, [(x, labels)] * 30, [0.1] * 30, momentum=0.9)
    assert losses[-1] < 0.2 * losses[0]
