"""What is known of a trained network."""

from pathlib import Path

import numpy as np
import pytest

from engine.config.errors import UserError
from engine.data.readers.normalise import Normalisation
from engine.formats.trained import Preprocessing


@pytest.mark.parametrize(
    "written",
    [
        {},
        {"scale": [1.0]},
        {"scale": [], "shift": []},
        {"scale": [1.0], "shift": [1.0, 2.0]},
        {"scale": [0.0], "shift": [1.0]},
        {"scale": [1.0], "shift": [float("nan")]},
        {"scale": ["1"], "shift": [1.0]},
        {"scale": 1.0, "shift": 1.0},
    ],
    ids=str,
)
def test_a_description_that_is_none_is_refused(written):
    with pytest.raises(
        UserError, match=r"^state\.json: normalisation must have scale and shift, a number for"
    ):
        Preprocessing.of_checkpoint(written, Path("state.json"))


def test_a_checkpoint_may_have_none():
    assert Preprocessing.of_checkpoint(None, Path("state.json")) is None
    read = Preprocessing.of_checkpoint({"scale": [0.5, 2], "shift": [1.0, -1]}, Path("state.json"))
    assert read == Preprocessing((0.5, 2), (1.0, -1))


def test_mean_and_deviation_are_those_of_the_pixels():
    normalisation = Normalisation.of(mean=(0.5, 0.25), std=(0.2, 0.1)).to_json()
    described = Preprocessing(*(tuple(normalisation[name]) for name in ("scale", "shift"))).described()
    assert described == {"mean": pytest.approx([127.5, 63.75]), "deviation": pytest.approx([51, 25.5])}
    x = (np.array([100.0, 200.0]) - described["mean"]) / described["deviation"]
    np.testing.assert_allclose(
        x,
        [
            100 * normalisation["scale"][0] + normalisation["shift"][0],
            200 * normalisation["scale"][1] + normalisation["shift"][1],
        ],
        rtol=1e-6,
    )
