"""What data sets say of what they do to their samples."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from engine.config.errors import UserError
from engine.data.dataset import DataSource
from engine.data.preprocessing import Preprocessing
from engine.data.readers.arrays import ArrayDataset
from engine.data.readers.normalise import Normalisation
from engine.data.sources import open_data
from tests.engine.data.files import random_bytes, write_cifar10, write_image, write_mnist


def said(spec, shape, classes=10):
    source = open_data(spec, shape, classes, 0)
    assert isinstance(source, DataSource)
    return source.train.preprocessing


def test_every_reader_says_its_own(tmp_path):
    (tmp_path / "mnist").mkdir()
    write_mnist(tmp_path / "mnist", split="train", samples=12)
    (tmp_path / "cifar10").mkdir()
    write_cifar10(tmp_path / "cifar10", samples=2)
    for name in ("ape", "bee"):
        write_image(tmp_path / "images" / name / "a.png", random_bytes(9, 9, 3))
    mnist, cifar = ((0.1307,), (0.3081,)), ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
    assert said("digits", (1, 8, 8)) == Preprocessing(
        (1, 8, 8), "grey", "as stored", "", (0.3045,), (0.3756,), 16
    )
    assert said(f"mnist:{tmp_path}/mnist", (1, 28, 28)) == Preprocessing(
        (1, 28, 28), "grey", "as stored", "", *mnist, 255
    )
    assert said(f"cifar10:{tmp_path}/cifar10", (3, 32, 32)) == Preprocessing(
        (3, 32, 32), "RGB", "as stored", "", *cifar, 255
    )
    assert said(f"images:{tmp_path}/images", (1, 4, 6), 2) == Preprocessing(
        (1, 4, 6), "grey", "cover", "EXIF", (0.449,), (0.226,), 255
    )
    cut = open_data(f"images:{tmp_path}/images", (3, 4, 4), 2, 0, centre_crop=0.5).train.preprocessing
    assert (cut.share, cut.size) == (0.5, "cover")
    assert "0.5 of the shorter side cut out of the centre" in cut.words()
    with pytest.raises(UserError, match=r"^centre_crop: got 0.5; digits has no stored images; must be 1$"):
        open_data("digits", (1, 8, 8), 10, 0, centre_crop=0.5)
    assert said("synthetic", (440,)) == Preprocessing((440,))
    assert ArrayDataset(np.zeros((2, 3, 4, 4)), [0, 1]).preprocessing == Preprocessing((3, 4, 4))


@pytest.mark.parametrize(
    ("fields", "takes"),
    [
        ({"sample_shape": (3, 8, 8), "mean": (0.5,) * 3}, True),
        ({"sample_shape": (1, 8, 8), "mean": (0.5,)}, True),
        ({"sample_shape": (3, 8, 8)}, False),
        ({"sample_shape": (2, 8, 8), "mean": (0.5,) * 2}, False),
        ({"sample_shape": (8,), "mean": (0.5,) * 8}, False),
    ],
)
def test_images_are_taken_where_all_is_known(fields, takes):
    assert Preprocessing(**fields).takes_images == takes


def test_it_comes_back_from_json_and_anything_else_is_an_error():
    whole = Preprocessing((3, 8, 8), "RGB", "cover", "EXIF", (0.1, 0.2, 0.3), (1.0, 2.0, 3.0), 255)
    assert Preprocessing.from_json(json.loads(json.dumps(whole.to_json()))) == whole
    cut, older = replace(whole, share=0.875), whole.to_json()
    assert Preprocessing.from_json(json.loads(json.dumps(cut.to_json()))) == cut
    del older["share"]  # as it was written before
    assert Preprocessing.from_json(older) == whole
    for damaged in (
        {},
        {"sample_shape": 3},
        whole.to_json() | {"mean": "x"},
        whole.to_json() | {"white": None},
        whole.to_json() | {"white": math.inf},
        whole.to_json() | {"white": 0},
        whole.to_json() | {"sample_shape": []},
        whole.to_json() | {"sample_shape": [3, math.inf, 8]},
        whole.to_json() | {"sample_shape": [3, 8.5, 8]},
        whole.to_json() | {"sample_shape": [1, 8, 8]},
        whole.to_json() | {"mean": [0.1, 0.2, 10**400]},
        whole.to_json() | {"mean": [0.1, 0.2, math.nan]},
        whole.to_json() | {"mean": [0.1, 0.2, True]},
        whole.to_json() | {"deviation": [1.0, 2.0, 0]},
        whole.to_json() | {"deviation": [1.0, 2.0]},
        whole.to_json() | {"size": {}},
        *(whole.to_json() | {"share": share} for share in (0, 1.5, "x", math.nan, None)),
    ):
        with pytest.raises((KeyError, TypeError, ValueError)):
            Preprocessing.from_json(damaged)


def test_images_of_8_bits_are_normalised_like_data_with_another_white():
    pixels = np.arange(17, dtype=np.uint8).reshape(1, 1, 17)
    digits = Normalisation.of(mean=[0.3045], std=[0.3756], white=16)
    images = Normalisation.of_images(digits.preprocessing((1, 1, 17), size=""))
    one, other = (np.empty(pixels.shape, np.float32) for _ in range(2))
    digits.apply(pixels, one)
    images.apply((pixels * (255 / 16)).round().astype(np.uint8), other)
    np.testing.assert_allclose(one, other, atol=0.5 / 255 / 0.3756 + 1e-6)  # half a step of 8 bits


def test_it_is_said_in_one_line():
    assert Preprocessing((440,)).words() == "440"
    assert said("digits", (1, 8, 8)).words() == (
        "1 x 8 x 8 grey; as stored; mean 0.3045, deviation 0.3756, white 16"
    )
