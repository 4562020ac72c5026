"""The embedded digits and their fixed split."""

import subprocess
import sys

import numpy as np
from sklearn.datasets import load_digits

from engine.data.readers.digits import open_digits
from tests.engine.data.files import read_all


def test_every_digit_is_in_one_half_with_its_own_label() -> None:
    source = open_digits()
    assert source.test is not None
    assert (len(source.train), len(source.test)) == (1437, 360)
    halves = [read_all(half) for half in (source.train, source.test)]
    x = np.concatenate([images for images, _ in halves])
    digits = load_digits()
    raw = np.rint((x[:, 0] * 0.3756 + 0.3045) * 16).astype(int)
    ours = sorted(
        (image.tobytes(), label) for image, label in zip(raw, halves[0][1] + halves[1][1], strict=True)
    )
    theirs = sorted(
        (image.astype(int).tobytes(), int(label))
        for image, label in zip(digits.images, digits.target, strict=True)
    )
    assert ours == theirs


def test_training_half_has_zero_mean_and_unit_variance() -> None:
    x, labels = read_all(open_digits().train)
    assert x.shape == (1437, 1, 8, 8)
    assert set(labels) == set(range(10))
    # The constants have four decimals.
    assert abs(x.mean(dtype=np.float64)) < 5e-4
    assert abs(x.std(dtype=np.float64) - 1) < 5e-4


def test_split_is_the_same_every_time() -> None:
    first, second = read_all(open_digits().train), read_all(open_digits().train)
    np.testing.assert_array_equal(first[0], second[0])
    assert first[1] == second[1]


def test_neither_scikit_learn_nor_pillow_is_needed() -> None:
    code = (
        "import sys; sys.modules['sklearn'] = sys.modules['PIL'] = None\n"
        "from engine.data.readers.digits import open_digits\n"
        "import engine.run.prepare\n"
        "assert len(open_digits().train) == 1437"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_samples_are_those_that_were_trained_on_before() -> None:
    source = open_digits()
    assert source.train.fingerprint() == "0953cd4a92ed3975"
    assert source.test is not None and source.test.fingerprint() == "16568512f3c81978"
