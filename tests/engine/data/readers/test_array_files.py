"""numpy's files: images in any order of axes, features, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from engine.data.dataset import DataError
from engine.data.readers.array_files import ArrayImages, open_arrays
from tests.engine.data.files import random_bytes, read_all

PIXELS = random_bytes(4, 8, 9, 3)
LABELS = np.array([0, 1, 1, 0])


def test_images_are_the_same_in_either_order_and_either_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "last.npz", x=PIXELS, y=LABELS)
    np.savez_compressed(tmp_path / "first.npz", images=PIXELS.transpose(0, 3, 1, 2), labels=LABELS[:, None])
    for split in ("train", "test"):
        np.save(tmp_path / f"x_{split}.npy", PIXELS)
        np.save(tmp_path / f"y_{split}.npy", LABELS)
    opened = [open_arrays(tmp_path / name, (3, 8, 9)) for name in ("last.npz", "first.npz", "")]
    samples = [read_all(source.train) for source in opened]
    assert all(labels == LABELS.tolist() for _, labels in samples)
    assert all(np.array_equal(x, samples[0][0]) for x, _ in samples)
    assert opened[2].test is not None
    assert opened[2].train.fingerprint() == opened[0].train.fingerprint()
    mapped = opened[2].train
    assert isinstance(mapped, ArrayImages)
    assert isinstance(mapped.pixels, np.memmap)


def test_grey_images_become_what_the_network_wants(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=PIXELS[..., 0], y=LABELS)
    assert read_all(open_arrays(tmp_path / "a.npz", (1, 8, 9)).train)[0].shape == (4, 1, 8, 9)
    x, _ = read_all(open_arrays(tmp_path / "a.npz", (3, 4, 4)).train)
    assert x.shape == (4, 3, 4, 4)


def test_features_are_kept_as_they_are(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(4, 5))
    np.savez(tmp_path / "a.npz", x=x, y=LABELS)
    found, _ = read_all(open_arrays(tmp_path / "a.npz", (5,)).train)
    np.testing.assert_array_equal(found, x.astype(np.float32))


@pytest.mark.parametrize(
    ("arrays", "problem"),
    [
        ({"x": PIXELS}, "has no labels; must have x and y"),
        ({"x": PIXELS, "images": PIXELS, "y": LABELS}, "has x and images"),
        ({"z": PIXELS}, "has z; must have x and y"),
        ({"x": PIXELS, "y": LABELS[:3]}, r"y is int64 \[3\]; must be a whole number for each of x"),
        ({"x": PIXELS, "y": LABELS / 2}, r"y is float64 \[4\]; must be a whole number"),
        ({"x": PIXELS, "y": LABELS - 1}, "sample 0: has label -1; must be from 0 to 0"),
        (
            {"x": PIXELS[:, :3], "y": LABELS},
            r"has samples uint8 \[4, 3, 9, 3\]: of 3 and 3 either could be the channels",
        ),
        (
            {"x": np.zeros((4, 8, 8, 4), np.uint8), "y": LABELS},
            r"has samples uint8 \[4, 8, 8, 4\]: of 8 and 4 neither can be the channels",
        ),
        (
            {"x": PIXELS.astype(np.int32), "y": LABELS},
            r"has samples int32 \[4, 8, 9, 3\]; must be images of uint8",
        ),
        ({"x": np.array([{}] * 4), "y": LABELS}, "x.npy cannot be read: Object arrays cannot be loaded"),
    ],
)
def test_other_arrays_are_one_line(tmp_path: Path, arrays: dict[str, np.ndarray], problem: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=rf"a.npz: {problem}"):
        open_arrays(tmp_path / "a.npz", (3, 8, 8))


def test_a_pickle_is_never_read(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{}] * 4))
    np.save(tmp_path / "y.npy", LABELS)
    with pytest.raises(DataError, match=r"x.npy: is no array that can be mapped"):
        open_arrays(tmp_path, (3, 8, 8))


def test_a_file_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", PIXELS)
    np.save(tmp_path / "y.npy", LABELS)
    (tmp_path / "x.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:-1])
    with pytest.raises(DataError, match=r"x.npy: is no array that can be mapped"):
        open_arrays(tmp_path, (3, 8, 8))
