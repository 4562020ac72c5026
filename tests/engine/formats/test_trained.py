"""What is known of a trained network."""

import numpy as np
import pytest

from engine.data.readers.normalise import Normalisation
from engine.formats.trained import Scaling


def test_mean_and_deviation_are_those_of_the_pixels():
    normalisation = Normalisation.of(mean=(0.5, 0.25), std=(0.2, 0.1)).to_json()
    described = Scaling(*(tuple(normalisation[name]) for name in ("scale", "shift"))).described()
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
