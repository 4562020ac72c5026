"""Small trained networks that several tests look at; none of them changes their folders."""

import lockstep
import numpy as np
import pytest

from tests.engine.data.files import random_bytes, write_image

COLOURS = {"blue": (0, 0, 255), "green": (0, 255, 0), "red": (255, 0, 0)}


def write_photos(folder, names, *, count=16, seed=0):
    """Write images of one colour each, with some noise, in a folder for each class."""
    for place, name in enumerate(names):
        noise = random_bytes(count, 20, 24, 3, seed=seed + place, high=60)
        for index in range(count):
            pixels = np.maximum(noise[index], np.array(COLOURS[name], np.uint8) // 2)
            write_image(folder / name / f"{index:02d}.png", pixels)
    return folder


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory):
    """Return a run of 66 steps on the digits that come along."""
    folder = tmp_path_factory.mktemp("trained")
    return lockstep.train(
        "digits", epochs=3, threads=1, out=str(folder / "digits"), keep_best="test_accuracy"
    )


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Return a folder of photographs of three classes, with a test set."""
    folder = tmp_path_factory.mktemp("photos")
    write_photos(folder / "train", COLOURS)
    write_photos(folder / "test", COLOURS, count=5, seed=100)
    return folder


@pytest.fixture(scope="session")
def photos_run(tmp_path_factory, photos):
    """Return a run on these, which tells the classes apart."""
    folder = tmp_path_factory.mktemp("trained")
    return lockstep.train(
        "digits",
        data=f"images:{photos}",
        changes={"model_arguments.image": [3, 16, 16]},
        batch=16,
        steps=30,
        threads=1,
        out=str(folder / "photos"),
    )
