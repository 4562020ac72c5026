"""Standard normal numbers from words: numpy's, without the C library."""

import hashlib
import math
from decimal import Decimal, localcontext

import numpy as np
import pytest

from layers.kernels import normal

WORDS = np.random.Philox(key=[3, 5]).random_raw(1 << 12).astype("<u8").view("<u4")


def filled(words, count):
    numbers = np.full(count, np.nan, np.float32)
    used, made = normal.fill(words, numbers)
    return numbers[:made], used


def test_words_that_do_not_suffice_for_the_next_number_are_left():
    whole, used = filled(WORDS, len(WORDS))
    assert 0 < len(whole) <= used <= len(WORDS)
    assert len(whole) < len(WORDS), "some numbers take several words"
    lengths = set()
    for stop in range(400):
        numbers, used = filled(WORDS[:stop], len(WORDS))
        rest, _ = filled(WORDS[used:], len(WORDS))
        np.testing.assert_array_equal(np.concatenate([numbers, rest]), whole)
        lengths.add(stop - used)
    assert lengths == {0, 1}, "and some were cut"


def test_a_number_of_the_tail_takes_pairs_of_words_until_one_is_found():
    limit = np.uint32((1 << 23) - 1)  # beyond the limit of the lowest layer
    tail = np.uint32(limit << np.uint32(9))
    none, one = np.uint32(0xFFFFFF00), np.uint32(0)  # of log(2**-24) nothing comes out, of log(1) the edge
    words = np.array([tail, none, one, one, none], np.uint32)
    for stop in range(5):
        assert filled(words[:stop], 1)[1] == 0
    numbers, used = filled(words, 1)
    assert used == 5
    edge = np.float32(3.6541528853610088)
    assert numbers.tolist() == [-edge if (int(limit) >> 8) & 1 else edge]


def test_no_more_words_are_used_than_the_numbers_need():
    numbers, used = filled(WORDS, 7)
    again, _ = filled(WORDS[:used], 100)
    np.testing.assert_array_equal(numbers, again)


@pytest.mark.parametrize("x", [1.0, 0.99999994, 0.75, 0.7071067811865476, 0.5, 1e-3, 2.0**-24])
def test_the_logarithm_is_right_to_its_last_bits(x):
    with localcontext() as context:
        context.prec = 40
        right = float(Decimal(x).ln())
    assert normal._log(x) == pytest.approx(right, rel=4e-16, abs=1e-17)  # two units of the last place


@pytest.mark.parametrize(
    "u", [0, 1, 2, 1 << 4, 1 << 23, 3 << 22, 4913933, 4913934, (1 << 23) + 3, (1 << 24) - 1]
)
def test_the_logarithm_of_the_tail_is_right_to_its_last_bit_but_one(u):
    share = np.float32(u * 2.0**-24)
    right = np.float32(math.log1p(-float(share)))
    found = normal._log_without.py_func(share)
    assert abs(float(found) - math.log1p(-float(share))) <= np.spacing(abs(right))


def test_the_logarithm_of_the_tail_has_the_bits_that_it_always_had():
    words = np.arange(0, 1 << 24, 4099) * np.float32(2.0**-24)
    found = np.array([normal._log_without.py_func(np.float32(u)) for u in words], np.float32)
    assert (
        hashlib.sha256(found.astype("<f4").data).hexdigest()
        == "d52926d2ad937bc5a359ad8e2a7fa16f0b333c7a6e74af7914496421f222751b"
    ), "those of glibc 2.36"


@pytest.mark.parametrize("x", [0.0, -1e-9, -0.3, -0.35, -1.0, -6.7, -40.0])
def test_the_exponential_is_right_to_its_last_bits(x):
    with localcontext() as context:
        context.prec = 40
        right = float(Decimal(x).exp())
    assert normal._exp.py_func(x) == pytest.approx(right, rel=5e-16)  # two units of the last place


def test_the_layers_have_equal_areas():
    limits, widths, heights = (each.astype(np.float64) for each in normal._tables())
    edges = widths * 2.0**23
    areas = edges[1:] * (heights[:-1] - heights[1:])
    assert areas == pytest.approx(4.928673233974655e-3, rel=2e-5)  # heights near 1 are rounded to 6e-8
    assert heights == pytest.approx([1, *(math.exp(-0.5 * x * x) for x in edges[1:])], rel=1e-6)
    inner = np.append(limits[1:] * 2.0**-23 * edges[1:], 0)
    assert inner[1:-1] == pytest.approx(
        edges[1:-1], rel=3e-7
    )  # a limit is the next edge, in units of its own
