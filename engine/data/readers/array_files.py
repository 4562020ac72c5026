"""Samples in numpy's files: .npz, or pairs of .npy, which are mapped into memory and not read at once."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from engine.config.errors import UserError
from engine.config.files import check_regular, open_file
from engine.config.wording import shortened
from engine.data.dataset import DataError, DataSource, Labelled, digest
from engine.data.readers.class_names import SplitLabels, as_labels, classes_of, read_class_names
from engine.data.readers.image_file import load_pillow
from engine.data.readers.in_memory import check_room
from engine.data.readers.stored_images import StoredImages

_SAMPLES = ("x", "images", "data")
_LABELS = ("y", "labels")
_TRAINING, _TESTS = ("train", ""), ("test", "val")
_WANTED = "must have x and y (or images and labels), or x_train, y_train and perhaps x_test, y_test"
_HASHED = 64  # samples, all over the data

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True, eq=False, kw_only=True)
class ArrayImages(StoredImages):
    """Images whose pixels lie in an array: uint8 [N, H, W], [N, H, W, C] or [N, C, H, W]."""

    KEEPS_PIXELS: ClassVar[bool] = False

    pixels: NDArray[np.uint8]

    def stored(self, index: int) -> NDArray[np.uint8]:
        """Return the pixels of one image, uint8 [H, W] or [H, W, 3]."""
        return _as_image(self.pixels[index])

    def fingerprint(self) -> str:
        """Hash shape and labels, and some of the images."""
        return _hash(self.pixels, self.labels)


@dataclass(frozen=True, eq=False, kw_only=True)
class ArrayFeatures(Labelled):
    """Samples as they are in an array: floats [N, F] or [N, C, H, W]."""

    READS_ON_THREADS: ClassVar[bool] = True

    x: NDArray[np.floating[Any]]
    labels: NDArray[np.int32]

    def read(self, index: int, x: NDArray[np.float32]) -> int:
        """Copy one sample into x and return its label."""
        with np.errstate(over="ignore"):  # of float64: not finite then, which the caller says
            x[...] = self.x[index]
        return int(self.labels[index])

    def fingerprint(self) -> str:
        """Hash shape and labels, and some of the samples."""
        return _hash(self.x, self.labels)


def open_arrays(place: Path, sample_shape: tuple[int, ...]) -> DataSource:
    """Open an .npz file, or the .npy files of a folder.

    Images are made samples of `sample_shape`; floats are samples as they are. Objects of Python (pickles)
    are never read.

    Raises
    ------
    DataError
        An array is missing, damaged, or of another shape or kind.
    """
    arrays = _in_folder(place) if place.is_dir() else _in_file(place)
    names = read_class_names(place if place.is_dir() else place.parent)
    train = _pair(arrays, _TRAINING, place)
    if train is None:
        raise DataError.at(place, f"has {', '.join(sorted(arrays)) or 'no arrays'}; {_WANTED}")
    tests = next((pair for split in _TESTS if (pair := _pair(arrays, (split,), place))), None)
    pairs = [train, *([tests] if tests else [])]
    said = [SplitLabels(labels, lambda index: f"{place}: sample {index}") for _, labels in pairs]
    classes = classes_of(said, names, place)
    splits = [_dataset(x, labels, classes, names, sample_shape, place) for x, labels in pairs]
    return DataSource(splits[0], splits[1] if tests else None)


def _in_folder(folder: Path) -> Arrays:
    """Map the .npy files of a folder, by their names."""
    arrays: Arrays = {}
    for path in sorted(folder.glob("*.npy")):
        try:
            check_regular(path)
            arrays[path.stem.lower()] = np.load(path, mmap_mode="r", allow_pickle=False)
        except OSError as error:
            raise DataError.at(path, f"cannot be read: {error.strerror or error}") from error
        except Exception as error:  # a damaged header makes numpy raise nearly anything
            raise DataError.at(path, f"is no array that can be mapped: {shortened(error, 200)}") from error
    return arrays


def _in_file(path: Path) -> Arrays:
    """Read the arrays of an .npz file into memory."""
    if not path.exists():
        raise DataError.at(
            path, "no such file or folder; arrays:FILE wants .npz, arrays:DIR a folder of .npy"
        )
    arrays: Arrays = {}
    name = ""
    try:
        with open_file(path) as file, zipfile.ZipFile(file) as archive:
            members = [each for each in archive.infolist() if each.filename.endswith(".npy")]
            check_room(path, sum(each.file_size for each in members))
            for member in members:
                name = member.filename
                with archive.open(member) as inside:
                    arrays[name.removesuffix(".npy").lower()] = npy.read_array(inside, allow_pickle=False)
    except UserError:
        raise
    except OSError as error:
        raise DataError.at(path, f"cannot be read: {error.strerror or error}") from error
    except Exception as error:  # of a damaged file nearly anything
        raise DataError.at(
            path, f"{shortened(name) or 'it'} cannot be read: {shortened(error, 200) or type(error).__name__}"
        ) from error
    return arrays


def _pair(
    arrays: Arrays, splits: tuple[str, ...], place: Path
) -> tuple[NDArray[Any], NDArray[np.int32]] | None:
    """Return samples and labels of a split, by any of its names."""
    found = {
        what: [key for name in names for split in splits for key in _keys(name, split) if key in arrays]
        for what, names in (("samples", _SAMPLES), ("labels", _LABELS))
    }
    if not any(found.values()):
        return None
    for what, keys in found.items():
        if len(keys) != 1:
            raise DataError.at(place, f"has {' and '.join(keys) or 'no ' + what}; {_WANTED}")
    x, labels = arrays[found["samples"][0]], arrays[found["labels"][0]]
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.dtype.kind not in "iu" or labels.ndim != 1 or x.ndim == 0 or len(labels) != len(x):
        got = f"{found['labels'][0]} is {labels.dtype} {list(labels.shape)}"
        raise DataError.at(place, f"{got}; must be a whole number for each of {found['samples'][0]}")
    if len(labels) and not -(2**31) <= int(labels.min()) <= int(labels.max()) < 2**31:
        raise DataError.at(place, f"{found['labels'][0]} has label {labels.max()}")
    return x, as_labels(labels)


def _keys(name: str, split: str) -> tuple[str, ...]:
    return (f"{name}_{split}", f"{split}_{name}") if split else (name,)


def _dataset(
    x: NDArray[Any],
    labels: NDArray[np.int32],
    classes: int,
    names: tuple[str, ...],
    sample_shape: tuple[int, ...],
    place: Path,
) -> Labelled:
    got = f"has samples {x.dtype} {list(x.shape)}"
    if x.dtype.kind == "f" and x.ndim in (2, 4) and x.size:
        return ArrayFeatures("arrays", x.shape[1:], classes, class_names=names, x=x, labels=labels)
    if x.dtype != np.uint8 or x.ndim not in (3, 4) or not x.size:
        raise DataError.at(place, f"{got}; must be images of uint8 [N, H, W (, C)], or floats [N, F]")
    if x.ndim == 4 and (x.shape[1] in (1, 3)) == (x.shape[3] in (1, 3)):
        either = "either could be the channels" if x.shape[1] in (1, 3) else "neither can be the channels"
        raise DataError.at(
            place,
            f"{got}: of {x.shape[1]} and {x.shape[3]} {either}; must be one of them, and 1 or 3",
        )
    if len(sample_shape) != 3 or sample_shape[0] not in (1, 3):
        raise UserError(f"arrays: the model wants samples of shape {sample_shape}, and these are images")
    load_pillow()
    return ArrayImages(
        name="arrays",
        sample_shape=sample_shape,
        classes=classes,
        class_names=names,
        labels=labels,
        pixels=x,
    )


def _as_image(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an image as [H, W] or [H, W, 3]."""
    image = np.asarray(pixels)
    if image.ndim == 3 and image.shape[0] in (1, 3) and image.shape[2] not in (1, 3):
        image = image.transpose(1, 2, 0)
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    return np.ascontiguousarray(image)


def _hash(x: NDArray[Any], labels: NDArray[np.int32]) -> str:
    some = np.unique(np.linspace(0, len(x) - 1, min(len(x), _HASHED)).astype(int))
    return digest(f"{x.dtype.str} {x.shape}", labels, np.array(x[some]))
