"""The 1,797 handwritten digits of 8x8 pixels that come along: real data that needs no download.

They are those of `sklearn.datasets.load_digits`, so that a plain installation has something to train on.
"""

from pathlib import Path

import numpy as np

from engine.data.counter import Stream, permutation
from engine.data.dataset import DataSource
from engine.data.readers.in_memory import InMemoryImages
from engine.data.readers.normalise import Normalisation

TRAIN_SAMPLES = 1437
_FILE = Path(__file__).parents[1] / "samples" / "digits.npz"
WHITE = 16
_TRAIN_MEAN = 0.3045
_TRAIN_STD = 0.3756


def open_digits() -> DataSource:
    """Split the digits into 1,437 for training and 360 for testing, the same ones every time.

    Samples are (1, 8, 8); mean and deviation are those of the training set.
    """
    with np.load(_FILE) as digits:
        pixels, labels = digits["images"][:, np.newaxis], digits["labels"]
    order = permutation(Stream.DIGITS_SPLIT, len(pixels), seed=0)
    normalisation = Normalisation.of(mean=[_TRAIN_MEAN], std=[_TRAIN_STD], white=WHITE)
    train, test = (
        InMemoryImages("digits", (1, 8, 8), 10, pixels[chosen], labels[chosen], normalisation)
        for chosen in (order[:TRAIN_SAMPLES], order[TRAIN_SAMPLES:])
    )
    return DataSource(train, test)
