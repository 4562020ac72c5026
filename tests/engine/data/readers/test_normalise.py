"""Normalisation against its textbook formula."""

import numpy as np

from engine.data.readers.normalise import Normalisation
from tests.engine.data.files import random_bytes


def test_matches_the_formula_channel_by_channel() -> None:
    pixels = random_bytes(3, 5, 4)
    mean, std = np.array([0.1, 0.5, 0.9]), np.array([0.2, 0.3, 0.4])
    x = np.empty((3, 5, 4), np.float32)
    Normalisation.of(mean=mean.tolist(), std=std.tolist()).apply(pixels, x)
    expected = (pixels / 255 - mean[:, None, None]) / std[:, None, None]
    # Three roundings of float32 on values up to 5.
    np.testing.assert_allclose(x, expected, rtol=0, atol=2e-6)


def test_white_is_the_largest_pixel() -> None:
    x = np.empty((1, 1, 1), np.float32)
    Normalisation.of(mean=[0.0], std=[1.0], white=16).apply(np.full((1, 1, 1), 16, np.uint8), x)
    assert x.item() == 1.0
