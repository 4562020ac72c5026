"""Labels of a whole data set, and the weights of classes that follow."""

from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.config.errors import UserError
from engine.data.dataset import Dataset
from engine.data.labels import class_counts, exact_weights, labels_digest, labels_of, loss_weights
from engine.data.readers.arrays import ArrayDataset

LABELS = np.array([0, 2, 2, 0, 2, 2])


def labelled(labels: NDArray[np.integer] = LABELS, classes: int = 4) -> ArrayDataset:
    return ArrayDataset(np.zeros((len(labels), 3)), labels, classes=classes)


class Says(ArrayDataset):
    """Says of its labels what it is told to."""

    said: object = None

    def all_labels(self):  # type: ignore[no-untyped-def]
        return self.said


def saying(said: object) -> Dataset:
    data = Says(np.zeros((6, 3)), LABELS)
    object.__setattr__(data, "said", said)
    return data


def test_balanced_classes_have_the_same_weight_together_and_a_mean_of_one() -> None:
    data = labelled()
    weights = loss_weights("balanced", data)
    assert weights == (1.5, 1.0, 0.75, 1.0)
    assert sum(weights[label] for label in LABELS) == len(LABELS)


def test_given_weights_are_scaled_to_a_mean_of_one_over_the_samples() -> None:
    assert loss_weights((3, 5.0, 9.0, 0.0), labelled()) == (3 / 7, 5 / 7, 9 / 7, 0.0)
    assert loss_weights([1e-20, 1e29, 1e-20, 0], labelled())[0] == 1.0
    counts = class_counts(labels_of(labelled(), "here"), 4)
    assert counts == [2, 0, 4, 0]
    assert exact_weights((3, 5, 9, 0), labelled(), counts, "here")[0] == Fraction(3, 7)


@pytest.mark.parametrize("asked", ["none", "shuffled"])
def test_where_no_weights_are_asked_for_labels_are_not_either(asked: str) -> None:
    assert loss_weights(asked, saying("nonsense")) is None
    assert labels_digest(saying("nonsense"), asked, "none") == ""


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ((1, 2), r"^class_weights: got 2 weights; must be one for each of 4 classes$"),
        ((), r"^class_weights: got 0 weights; must be one for each of 4 classes$"),
        (
            (0, 1, 0, 1),
            r"^class_weights: got \[0, 1, 0, 1\]; must be above 0 for a class that has training samples$",
        ),
    ],
)
def test_weights_that_do_not_suit_the_classes_are_refused(asked: tuple[float, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        loss_weights(asked, labelled())


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (None, r"^class_weights: arrays does not say the labels of its samples.*must have all_labels$"),
        ([0, 1, 2], r"^arrays: all_labels returned int64 \[3\]; must be 6 whole numbers$"),
        (np.zeros(6), r"^arrays: all_labels returned float64 \[6\]; must be 6 whole numbers$"),
        ([0, 1, 2, 3, 0, 0], r"^arrays: all_labels run from 0 to 3; must be from 0 to 2$"),
        ([0, -1, 2, 0, 0, 0], r"^arrays: all_labels run from -1 to 2; must be from 0 to 2$"),
    ],
)
def test_what_a_data_set_says_of_its_labels_is_checked(said: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        labels_of(saying(said), "class_weights")


def test_ranks_compare_the_labels_that_weights_follow_from() -> None:
    first, second = saying([0, 1, 2, 0, 0, 0]), saying([0, 1, 2, 0, 0, 1])
    assert labels_digest(first, "balanced", "none") == labels_digest(first, "shuffled", (1.0, 1.0, 2.0))
    assert labels_digest(first, "balanced") != labels_digest(second, "balanced") != ""
