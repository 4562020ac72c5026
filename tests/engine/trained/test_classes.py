"""Classes of data beside those of a network."""

import numpy as np
import pytest

from engine.config.errors import UserError
from engine.data.dataset import DataError
from engine.data.readers.arrays import ArrayDataset
from engine.trained.classes import for_network

NAMES = ("ape", "bee", "cat", "dog")


def data(names=(), labels=(0, 1)):
    return ArrayDataset(np.zeros((len(labels), 5)), labels, classes=len(names) or 2, class_names=names)


def matched(dataset, names=NAMES):
    return for_network(dataset, dataset.class_names, names, 4, where="x")


def labels_of(dataset):
    x = np.empty(5, np.float32)
    return [dataset.read(index, x) for index in range(len(dataset))]


def test_labels_become_outputs_by_name():
    found = matched(data(("dog", "bee")))
    assert labels_of(found) == [3, 1]
    assert (found.classes, found.class_names, len(found)) == (4, NAMES, 2)
    assert found.preprocessing == data().preprocessing
    assert found.fingerprint() == data(("dog", "bee")).fingerprint()
    assert found.decoders == ()


def test_images_need_the_decoders_that_they_needed_before():
    class Photographs(ArrayDataset):
        decoders = ("JPEG",)

    names = ("dog", "bee")
    assert matched(Photographs(np.zeros((2, 5)), (0, 1), classes=2, class_names=names)).decoders == ("JPEG",)


@pytest.mark.parametrize(
    ("dataset", "names"),
    [
        (data(), NAMES),
        (data(("dog", "bee")), ()),
        (data(("ape", "bee")), NAMES),
        (data(("a", "a")), ("a", "a")),
    ],
)
def test_data_that_fits_as_it_is_is_left_as_it_is(dataset, names):
    assert matched(dataset, names) is dataset


def test_a_label_that_is_none_of_the_data_is_an_error_of_its_sample():
    broken = data(("dog", "bee"))
    broken.labels[1] = -1
    with pytest.raises(DataError, match="sample 1 has label -1; must be from 0 to 1"):
        labels_of(matched(broken))


def test_of_many_unknown_classes_some_are_named():
    names = tuple(f"n{index}" for index in range(4))
    with pytest.raises(
        UserError, match="x has 4 classes that the network does not know: n0, n1, n2, n3; it knows ape"
    ):
        matched(data(names))
    with pytest.raises(UserError, match="x has 1 class that the network does not know: n0"):
        matched(data(("ape", "n0")))
