"""What follows from checkpoints of earlier versions."""

import pytest

from engine.config.recipe import Recipe
from engine.data.preprocessing import Preprocessing
from engine.data.readers.normalise import Normalisation
from engine.trained.earlier import preprocessing_before

GREY = Normalisation.of(mean=[0.1307], std=[0.3081])


def test_what_was_published_comes_back():
    found = preprocessing_before(Recipe(data="mnist:x"), (1, 28, 28), GREY)
    assert found == Preprocessing((1, 28, 28), "grey", "as stored", "", (0.1307,), (0.3081,), 255)


@pytest.mark.parametrize(
    ("data", "normalisation"), [("synthetic", None), ("x.py:data", GREY), ("images:x", None)]
)
def test_of_other_data_the_shape_alone_is_known(data, normalisation):
    assert preprocessing_before(Recipe(data=data), (1, 8, 8), normalisation) == Preprocessing((1, 8, 8))
