"""Filters that whiten: what comes out of them has no correlation."""

import numpy as np

from engine.models.whitening import cifar10_filters, whitening_filters


def test_outputs_have_no_correlation_and_variance_one():
    rng = np.random.default_rng(1)
    images = rng.standard_normal((50, 3, 9, 8))
    images[:, 1] += images[:, 0] + 0.5
    images[..., 1:] += images[..., :-1]
    filters = whitening_filters(images, 2, epsilon=1e-9)
    assert filters.shape == (24, 3, 2, 2)
    assert filters.dtype == np.float32
    windows = np.lib.stride_tricks.sliding_window_view(images, (2, 2), (2, 3))
    found = np.einsum("nchwuv,kcuv->nhwk", windows, filters[:12].astype(float)).reshape(-1, 12)
    np.testing.assert_allclose(found.T @ found / len(found), np.eye(12), atol=1e-4)
    np.testing.assert_array_equal(filters[12:], -filters[:12])


def test_epsilon_bounds_what_hardly_varies():
    flat = np.ones((4, 1, 5, 5))
    filters = whitening_filters(flat, 2, epsilon=0.25)
    assert np.abs(filters).max() <= 1 / 0.5


def test_those_of_cifar10_begin_with_the_mean_of_a_patch():
    filters = cifar10_filters()
    assert filters.shape == (24, 3, 2, 2)
    assert np.ptp(filters[0]) < 0.1 * np.abs(filters[0]).mean()  # the largest eigenvalue: brightness
    lengths = np.linalg.norm(filters[:12].reshape(12, -1), axis=1)
    assert (np.diff(lengths) > 0).all()
    assert lengths[-1] < 5e-4**-0.5
