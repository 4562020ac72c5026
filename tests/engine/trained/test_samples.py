"""What a network can be asked about."""

import numpy as np
import pytest

from engine.config.errors import UserError
from engine.data.dataset import DataError
from engine.data.preprocessing import Preprocessing
from engine.data.readers.normalise import Normalisation
from engine.data.sources import open_data
from engine.trained.samples import Reading
from tests.engine.data.files import random_bytes, write_image

IMAGES = Normalisation.of(mean=[0.5], std=[0.25])
READING = Reading("images:x", IMAGES.preprocessing((1, 4, 6), size="cover"), IMAGES)


def read(sample, shape=(1, 4, 6)):
    x = np.full(shape, np.nan, np.float32)
    sample.read(x)
    return x


def test_folders_are_searched_at_any_depth_in_order_and_links_once(tmp_path):
    for name in ("b.png", "a.PNG", "deep/er/c.jpg", ".hidden/d.png", ".e.png"):
        write_image(tmp_path / name, random_bytes(4, 6))
    (tmp_path / "notes.txt").touch()
    (tmp_path / "deep/circle").symlink_to(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "deep")
    found = [sample.name for sample in READING.samples_in([tmp_path, tmp_path / "b.png"])]
    assert found == [str(tmp_path / name) for name in ("a.PNG", "b.png", "deep/er/c.jpg", "b.png")]


def test_a_folder_that_cannot_be_read_is_one_bad_sample(tmp_path, monkeypatch):
    def refused(path):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("os.scandir", refused)
    (bad,) = READING.samples_in([tmp_path])
    with pytest.raises(DataError, match=rf"^{tmp_path}: cannot be read: Permission denied$"):
        read(bad)


def test_an_image_is_sized_and_normalised_as_in_training(tmp_path):
    write_image(tmp_path / "a.png", np.full((40, 30), 255, np.uint8))
    np.testing.assert_array_equal(read(READING.samples_in([tmp_path])[0]), np.full((1, 4, 6), 2.0))


def test_an_image_is_cut_as_the_tests_of_its_training_were(tmp_path):
    for name in ("ape", "bee"):
        write_image(tmp_path / name / "a.png", random_bytes(40, 60, 3))
    for share in (1.0, 0.5):
        data = open_data(f"images:{tmp_path}", (3, 8, 8), 2, 0, centre_crop=share).train
        reading = Reading("images", data.preprocessing, None)
        wanted = np.empty((3, 8, 8), np.float32)
        for index, sample in enumerate(reading.samples_in([tmp_path])):
            data.read(index, wanted)
            np.testing.assert_array_equal(read(sample, (3, 8, 8)), wanted)


def test_arrays_hold_pixels_or_what_the_network_reads(tmp_path):
    pixels = random_bytes(3, 1, 4, 6)
    floats = pixels / 255 * 4 - 2
    np.save(tmp_path / "pixels.npy", pixels)
    np.save(tmp_path / "floats.npy", np.asfortranarray(floats))
    one, other = (READING.samples_in([tmp_path / name]) for name in ("pixels.npy", "floats.npy"))
    assert [sample.name for sample in one] == [f"{tmp_path}/pixels.npy[{index}]" for index in range(3)]
    for index in range(3):
        np.testing.assert_allclose(read(one[index]), read(other[index]), atol=1e-6)  # rounded another way
        np.testing.assert_array_equal(read(other[index]), floats[index].astype(np.float32))


def test_values_beyond_float32_are_a_bad_sample_without_a_warning():
    (bad,) = READING.samples_of(np.full((1, 1, 4, 6), 1e300))
    with pytest.raises(DataError, match=r"array\[0\]: has values that are not finite"):
        read(bad)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04",
        b"\x93NUMPY\x01\x00\x76\x00{'descr': '|O', 'fortran_order': False, 'shape': (3,), }",
    ],
)
def test_a_damaged_array_is_one_bad_sample(tmp_path, content):
    (tmp_path / "x.npy").write_bytes(content)
    (bad,) = READING.samples_in([tmp_path / "x.npy"])
    with pytest.raises(DataError, match=r"x.npy: cannot be read as an array"):
        read(bad)


@pytest.mark.parametrize(
    "array",
    [np.zeros((2, 4, 6), np.float32), np.zeros((2, 1, 4, 6), np.int64), np.float32(1), np.zeros(3, bool)],
)
def test_arrays_of_another_shape_or_type_are_refused(array):
    with pytest.raises(DataError, match=r"array: holds .*; must be float32 or uint8 \[N, 1, 4, 6\]"):
        READING.samples_of(np.asarray(array))


def test_images_are_refused_where_nothing_is_known_of_them(tmp_path):
    unknown = Reading("mine.py:data", Preprocessing((1, 4, 6)), None)
    with pytest.raises(UserError, match=r"images: the network was trained on mine.py:data, and how an image"):
        unknown.samples_in([tmp_path / "a.png"])
    assert len(unknown.samples_of(np.zeros((2, 1, 4, 6)))) == 2
