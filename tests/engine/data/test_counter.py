"""Numbers by key are fixed, independent and insensitive to the order of asking."""

import numpy as np
import pytest

from engine.config.errors import UserError
from engine.data.counter import Stream, permutation, random_words

SHUFFLE_WORDS = [1386294051110952485, 18147817048375502686, 17476695238439987009]


def test_words_never_change() -> None:
    # Philox4x64-10 of Salmon et al. 2011 as NumPy has it: runs of old recipes rest on these words.
    words = random_words(Stream.AUGMENT, 2, seed=7, counter=(5, 3))
    philox = np.random.Philox(key=7 + (2 << 64), counter=(5 << 128) + (3 << 192))
    np.testing.assert_array_equal(words, philox.random_raw(2))
    np.testing.assert_array_equal(random_words(Stream.SHUFFLE, 3, seed=1), SHUFFLE_WORDS)


def test_streams_keep_their_numbers() -> None:
    numbers = {  # in the bits of runs
        "SHUFFLE": 1, "AUGMENT": 2, "SYNTHETIC": 3, "DIGITS_SPLIT": 4, "MIX": 5, "DRAW": 6,
        "FRAME": 7, "COLOUR": 8, "ERASE": 9, "WINDOW": 10, "SUBSTITUTE": 11,
    }  # fmt: skip
    assert {name: stream.value for name, stream in Stream.__members__.items()} == numbers
    drawn = {random_words(stream, 1, seed=0).item() for stream in Stream}
    assert len(drawn) == len(numbers)


def test_each_part_of_the_key_matters() -> None:
    draws = [
        random_words(Stream.SHUFFLE, 4, seed=0),
        random_words(Stream.AUGMENT, 4, seed=0),
        random_words(Stream.SHUFFLE, 4, seed=1),
        random_words(Stream.SHUFFLE, 4, seed=0, counter=(1, 0)),
        random_words(Stream.SHUFFLE, 4, seed=0, counter=(0, 1)),
    ]
    assert len({tuple(draw.tolist()) for draw in draws}) == len(draws)


def test_permutation_holds_every_number_once() -> None:
    order = permutation(Stream.SHUFFLE, 1000, seed=3)
    assert order.dtype == np.int64
    np.testing.assert_array_equal(np.sort(order), np.arange(1000))
    assert not np.array_equal(order, np.arange(1000))


def test_any_word_is_a_seed() -> None:
    draws = [random_words(Stream.SHUFFLE, 2, seed=seed).tolist() for seed in (0, 129, 2**63, 2**64 - 1)]
    assert len(set(map(tuple, draws))) == 4


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_seed_out_of_range_is_refused(seed: int) -> None:
    with pytest.raises(UserError, match=rf"seed: got {seed}; must be from 0"):
        random_words(Stream.SHUFFLE, 1, seed=seed)


def test_a_permutation_sorts_the_words_of_its_key() -> None:
    for key in ({}, {"counter": (3, 1)}):
        words = random_words(Stream.DIGITS_SPLIT, 50, seed=4, counter=key.get("counter", (0, 0)))
        order = permutation(Stream.DIGITS_SPLIT, 50, seed=4, **key)
        assert (np.diff(words[order].astype(object)) > 0).all()
