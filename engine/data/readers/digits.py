"""scikit-learn's 1,797 handwritten digits of 8x8 pixels: real data that needs no download."""

import numpy as np

from engine.config.errors import UserError
from engine.data.counter import Stream, permutation
from engine.data.dataset import DataSource
from engine.data.readers.in_memory import InMemoryImages
from engine.data.readers.normalise import Normalisation

TRAIN_SAMPLES = 1437
_WHITE = 16
_TRAIN_MEAN = 0.3045
_TRAIN_STD = 0.3756


def open_digits() -> DataSource:
    """Split the digits into 1,437 for training and 360 for testing, the same ones every time.

    Samples are (1, 8, 8); mean and deviation are those of the training set.
    """
    try:
        from sklearn.datasets import load_digits  # noqa: PLC0415 - an extra: only its users need it
    except ImportError as error:
        raise UserError(
            "digits: scikit-learn is not installed; install it with pip install 'lockstep-sgd[data]'"
        ) from error
    digits = load_digits()
    pixels = digits.images.astype(np.uint8)[:, np.newaxis]
    labels = digits.target.astype(np.uint8)
    order = permutation(Stream.DIGITS_SPLIT, len(pixels), seed=0)
    normalisation = Normalisation.of(mean=[_TRAIN_MEAN], std=[_TRAIN_STD], white=_WHITE)
    train, test = (
        InMemoryImages("digits", (1, 8, 8), 10, pixels[chosen], labels[chosen], normalisation)
        for chosen in (order[:TRAIN_SAMPLES], order[TRAIN_SAMPLES:])
    )
    return DataSource(train, test)
