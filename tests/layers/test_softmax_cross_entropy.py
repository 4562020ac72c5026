"""The loss against its reference."""

import numpy as np
import pytest
from numpy.typing import NDArray

from layers.kernels import threads
from layers.kernels.simd import LANES
from layers.layout import blocks
from layers.reference import softmax_cross_entropy as reference
from layers.softmax_cross_entropy import SoftmaxCrossEntropy
from tests.layers import harness

Result = tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.uint8]]
SCALE = 0.125


def _run(
    logits: NDArray[np.float32],
    labels: NDArray[np.int32],
    *,
    count: int = 1,
    in_place: bool = False,
    smoothing: float = 0.0,
    others: NDArray[np.int32] | None = None,
    shares: NDArray[np.float64] | None = None,
    weights: NDArray[np.float64] | None = None,
) -> Result:
    """Return gradient (padding included), losses and correct."""
    samples, classes = logits.shape
    padded = np.zeros((samples, blocks(classes) * LANES), np.float32)
    padded[:, :classes] = logits
    gradient = padded if in_place else np.full_like(padded, np.nan)
    losses, correct = np.full(samples, np.nan), np.full(samples, 7, np.uint8)
    SoftmaxCrossEntropy().forward_backward(
        harness.workers(count),
        padded,
        labels,
        classes,
        SCALE,
        gradient,
        losses,
        correct,
        smoothing,
        others,
        shares,
        weights,
    )
    return gradient, losses, correct


def _draw(samples: int, classes: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    generator = np.random.default_rng(classes)
    logits = 5 * generator.standard_normal((samples, classes), dtype=np.float32)
    return logits, generator.integers(-1, classes, samples, dtype=np.int32)


@pytest.mark.parametrize("classes", [1, 2, 10, 16, 33, 1000])
def test_losses_and_gradient_equal_the_reference(classes: int) -> None:
    logits, labels = _draw(30, classes)
    gradient, losses, correct = _run(logits, labels)
    exact = logits.astype(np.float64)
    np.testing.assert_allclose(
        losses, reference.forward(exact, labels), rtol=1e-6, atol=2e-7
    )  # exp in float32
    expected = reference.backward_data(exact, labels, SCALE)
    np.testing.assert_allclose(gradient[:, :classes], expected, rtol=1e-6, atol=1e-8)
    assert not gradient[:, classes:].any()
    np.testing.assert_array_equal(correct, (logits.argmax(axis=1) == labels) & (labels >= 0))


@pytest.mark.parametrize("classes", [1, 2, 10, 16, 33, 1000])
@pytest.mark.parametrize("smoothing", [0.1, 0.9])
def test_smoothed_labels_equal_the_reference(classes: int, smoothing: float) -> None:
    logits, labels = _draw(30, classes)
    gradient, losses, correct = _run(logits, labels, smoothing=smoothing)
    exact = logits.astype(np.float64)
    np.testing.assert_allclose(
        losses, reference.forward(exact, labels, smoothing), rtol=1e-6, atol=2e-7
    )  # exp in float32
    expected = reference.backward_data(exact, labels, SCALE, smoothing)
    np.testing.assert_allclose(gradient[:, :classes], expected, rtol=1e-6, atol=1e-8)
    assert not gradient[:, classes:].any()
    np.testing.assert_array_equal(correct, _run(logits, labels)[2])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_mixed_samples_equal_the_reference(smoothing: float) -> None:
    logits, labels = _draw(40, 10)
    generator = np.random.default_rng(1)
    others, shares = generator.integers(0, 10, 40).astype(np.int32), generator.random(40)
    others[:5] = labels[:5]
    gradient, losses, correct = _run(logits, labels, smoothing=smoothing, others=others, shares=shares)
    exact, second = logits.astype(np.float64), np.where(labels < 0, labels, others).astype(np.int32)
    pairs = [reference.forward(exact, each, smoothing) for each in (labels, second)]
    np.testing.assert_allclose(losses, reference.mixed(*pairs, shares), rtol=1e-6, atol=2e-7)
    slopes = [reference.backward_data(exact, each, SCALE, smoothing) for each in (labels, second)]
    np.testing.assert_allclose(gradient[:, :10], reference.mixed(*slopes, shares), rtol=1e-6, atol=2e-8)
    np.testing.assert_array_equal(correct, _run(logits, labels)[2])


def _weights(classes: int) -> NDArray[np.float64]:
    weights = 4 * np.random.default_rng(2).random(classes)
    weights[0] = 0.0
    return weights


@pytest.mark.parametrize("classes", [1, 2, 10, 16, 33, 1000])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_weighted_classes_equal_the_reference(classes: int, smoothing: float) -> None:
    logits, labels = _draw(30, classes)
    weights = _weights(classes)
    gradient, losses, correct = _run(logits, labels, smoothing=smoothing, weights=weights)
    exact = logits.astype(np.float64)
    wanted = reference.forward(exact, labels, smoothing, weights)
    np.testing.assert_allclose(losses, wanted, rtol=1e-6, atol=1e-6)  # exp in float32, weights up to 4
    expected = reference.backward_data(exact, labels, SCALE, smoothing, weights)
    np.testing.assert_allclose(gradient[:, :classes], expected, rtol=1e-6, atol=4e-8)
    assert not gradient[:, classes:].any()
    np.testing.assert_array_equal(correct, _run(logits, labels)[2])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_weighted_mixed_samples_equal_the_reference(smoothing: float) -> None:
    logits, labels = _draw(40, 10)
    generator, weights = np.random.default_rng(1), _weights(10)
    others, shares = generator.integers(0, 10, 40).astype(np.int32), generator.random(40)
    others[:5] = labels[:5]
    gradient, losses, _ = _run(
        logits, labels, smoothing=smoothing, others=others, shares=shares, weights=weights
    )
    exact, second = logits.astype(np.float64), np.where(labels < 0, labels, others).astype(np.int32)
    pairs = [reference.forward(exact, each, smoothing, weights) for each in (labels, second)]
    np.testing.assert_allclose(losses, reference.mixed(*pairs, shares), rtol=1e-6, atol=1e-6)
    slopes = [reference.backward_data(exact, each, SCALE, smoothing, weights) for each in (labels, second)]
    np.testing.assert_allclose(gradient[:, :10], reference.mixed(*slopes, shares), rtol=1e-6, atol=8e-8)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_weighted_reference_is_that_of_pytorch(smoothing: float) -> None:
    functional = pytest.importorskip("torch.nn.functional")
    torch = pytest.importorskip("torch")
    logits, labels = _draw(30, 10)
    labels, weights = np.abs(labels), _weights(10)
    x = torch.tensor(logits, dtype=torch.float64, requires_grad=True)
    loss = functional.cross_entropy(
        x, torch.tensor(labels, dtype=torch.int64), torch.tensor(weights),
        label_smoothing=smoothing, reduction="sum",
    )  # fmt: skip
    loss.backward()
    exact = logits.astype(np.float64)
    found = reference.forward(exact, labels, smoothing, weights).sum()
    assert found == pytest.approx(loss.item(), rel=1e-12)
    slopes = reference.backward_data(exact, labels, 1.0, smoothing, weights)
    np.testing.assert_allclose(slopes, x.grad.numpy(), rtol=1e-9, atol=1e-12)


def test_another_label_out_of_range_is_refused() -> None:
    logits, labels = _draw(3, 4)
    with pytest.raises(ValueError, match="label 4 must be less than the 4 classes"):
        _run(logits, labels, others=np.full(3, 4, np.int32), shares=np.ones(3))


def test_smoothing_of_nothing_changes_no_bit() -> None:
    logits, labels = _draw(30, 10)
    plain, smooth = _run(logits, labels), _run(logits, labels, smoothing=5e-324)
    assert all(one.tobytes() == other.tobytes() for one, other in zip(plain, smooth, strict=True))


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_gradient_of_the_reference_equals_finite_differences(smoothing: float) -> None:
    logits, labels = _draw(6, 10)
    exact = logits.astype(np.float64)
    direction = np.random.default_rng(0).standard_normal(exact.shape)
    up, down = (
        reference.forward(exact + step * direction, labels, smoothing).sum() * SCALE for step in (1e-5, -1e-5)
    )
    slope = np.vdot(reference.backward_data(exact, labels, SCALE, smoothing), direction)
    np.testing.assert_allclose((up - down) / 2e-5, slope, rtol=1e-7)


def test_an_absent_sample_gives_zeros() -> None:
    logits = np.array([[1, 2, np.nan], [3, 1, 2]], np.float32)
    gradient, losses, correct = _run(logits, np.array([-1, 0], np.int32))
    assert losses[0] == 0
    assert correct.tolist() == [0, 1]
    assert not gradient[0].any()
    assert gradient[1, :3].all()


def test_of_equal_logits_the_first_is_the_prediction() -> None:
    logits = np.array([[1, 2, 2]] * 3, np.float32)
    _, _, correct = _run(logits, np.array([0, 1, 2], np.int32))
    assert correct.tolist() == [0, 1, 0]


def test_large_logits_do_not_overflow() -> None:
    logits = np.array([[1e30, 0, -1e30], [-1e30, 1e30, 0]], np.float32)
    gradient, losses, _ = _run(logits, np.array([0, 0], np.int32))
    np.testing.assert_allclose(losses, [0, 2e30], rtol=1e-6)
    np.testing.assert_array_equal(gradient[:, :3], [[0, 0, 0], [-SCALE, SCALE, 0]])


def test_a_nan_is_not_hidden() -> None:
    for place in range(3):
        logits = np.zeros((1, 3), np.float32)
        logits[0, place] = np.nan
        gradient, losses, _ = _run(logits, np.array([0], np.int32))
        assert np.isnan(losses).all()
        assert np.isnan(gradient[:, :3]).all()


def test_neither_minibatch_nor_threads_nor_place_change_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "INLINE_WORK", 0)
    logits, labels = _draw(30, 33)
    together = _run(logits, labels)
    for other in (_run(logits, labels, count=3), _run(logits, labels, in_place=True)):
        for one, two in zip(together, other, strict=True):
            np.testing.assert_array_equal(one, two)
    for n in range(30):
        for one, two in zip(together, _run(logits[n : n + 1], labels[n : n + 1]), strict=True):
            np.testing.assert_array_equal(one[n : n + 1], two)


def test_a_label_that_is_no_class_is_refused() -> None:
    with pytest.raises(ValueError, match="label 3 must be less than the 3 classes"):
        _run(np.zeros((1, 3), np.float32), np.array([3], np.int32))
