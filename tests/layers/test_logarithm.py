"""The logarithm of kernels against libm's."""

import math

import numpy as np
from numba import float64, int64

from layers.kernels.jit import kernel
from layers.kernels.logarithm import log


@kernel(int64, int64, int64, float64[::1], float64[::1])
def logs(worker, first, last, x, y):  # noqa: ARG001
    for at in range(first, last):
        y[at] = log(x[at])


def test_it_is_within_one_unit_in_the_last_place() -> None:
    generator = np.random.default_rng(0)
    x = np.concatenate(
        [
            np.exp(generator.uniform(-700, 700, 20_000)),
            generator.uniform(0.5, 2, 20_000),
            1 + generator.uniform(-1e-9, 1e-9, 20_000),
            2.0 ** np.arange(-1022, 1024),
        ]
    )
    y, expected = np.empty_like(x), np.array([math.log(value) for value in x])
    logs(0, 0, len(x), x, y)
    assert (np.abs(y - expected) <= np.spacing(np.abs(expected))).all()


def test_one_gives_zero_and_what_is_not_finite_stays() -> None:
    x, y = np.array([1.0, np.inf, np.nan]), np.empty(3)
    logs(0, 0, 3, x, y)
    assert y[:2].tolist() == [0.0, np.inf]
    assert np.isnan(y[2])


def test_its_bits_are_written_down() -> None:
    x, y = np.array([10.0, 1000.0, 3.141592653589793, 1e-300]), np.empty(4)
    logs(0, 0, 4, x, y)
    assert [value.hex() for value in y] == [
        "0x1.26bb1bbb55516p+1", "0x1.ba18a998fffa0p+2", "0x1.250d048e7a1bdp+0", "-0x1.5963447f87fb5p+9"
    ]  # fmt: skip
