"""Folders of JPEG and PNG images, one folder a class."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.data.dataset import DataError, Dataset, DataSource, digest
from engine.data.readers.image_file import load_pillow, read_pixels
from engine.data.readers.normalise import Normalisation

ENDINGS = (".jpg", ".jpeg", ".png")
CACHE_BYTES = 1 << 30
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
GREY_MEAN = (0.449,)
GREY_STD = (0.226,)


@dataclass(frozen=True, eq=False)
class ImageFolder(Dataset):
    """Images that are decoded when they are read, and kept as bytes if all of them fit the budget.

    Attributes
    ----------
    root
        The folder of the class folders.
    files
        The images, sorted by class and then by path: names relative to `root`.
    labels
        int32 [N].
    cache
        uint8 [N, C, H, W], or [0, C, H, W] where the images do not fit; a row is written when first read.
    cached
        bool [N]: which rows of the cache are written.
    """

    root: Path
    files: tuple[str, ...]
    labels: NDArray[np.int32]
    normalisation: Normalisation
    cache: NDArray[np.uint8]
    cached: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int, x: NDArray[np.float32]) -> int:
        """Decode or recall one image, normalise it into x, and return its label."""
        self.normalisation.apply(self._pixels(index), x)
        return int(self.labels[index])

    def fingerprint(self) -> str:
        """Hash names and labels; the images themselves are not read for it."""
        return digest("\0".join(self.files), self.labels)

    def _pixels(self, index: int) -> NDArray[np.uint8]:
        if self.cached[index]:
            row: NDArray[np.uint8] = self.cache[index]
            return row
        channels, height, width = self.sample_shape
        pixels = read_pixels(self.root / self.files[index], channels=channels, height=height, width=width)
        if len(self.cache):
            self.cache[index] = pixels
            self.cached[index] = True
        return pixels


def open_image_folder(directory: Path, sample_shape: tuple[int, int, int]) -> DataSource:
    """List the images of a folder as samples of shape (3, H, W) in colour or (1, H, W) in grey.

    The folder holds class folders, or train/ with class folders and, for testing, test/ or val/ with some
    of the same classes. The label of a class is its place among the sorted names. Names that start with a
    dot are passed over, as are files with other endings. Links are followed. Pixels are normalised by
    ImageNet's published mean and deviation, and kept in memory if those of a data set fit CACHE_BYTES.

    Parameters
    ----------
    directory
        The folder.
    sample_shape
        Images of another size are resized to cover it and cut around the centre.
    """
    load_pillow()
    if not directory.is_dir():
        raise DataError.at(directory, "no such folder; images:DIR wants a folder of class folders")
    grey = sample_shape[0] == 1
    normalisation = Normalisation.of(
        mean=GREY_MEAN if grey else IMAGENET_MEAN, std=GREY_STD if grey else IMAGENET_STD
    )
    train_root, test_root = _splits(directory)
    classes = _folders(train_root)
    if len(classes) < 2:
        raise DataError.at(train_root, f"has {len(classes)} class folders; must be at least 2")

    def dataset(root: Path, names: Sequence[str]) -> ImageFolder:
        found = {name: _images(root, name) for name in names}
        labels = [classes.index(name) for name in names]
        files = tuple(file for name in names for file in found[name])
        kept = len(files) if len(files) * int(np.prod(sample_shape)) <= CACHE_BYTES else 0
        return ImageFolder(
            name="images",
            sample_shape=sample_shape,
            classes=len(classes),
            root=root,
            files=files,
            labels=np.repeat(np.array(labels, np.int32), [len(found[name]) for name in names]),
            normalisation=normalisation,
            cache=np.empty((kept, *sample_shape), np.uint8),
            cached=np.zeros(len(files), np.bool_),
        )

    train = dataset(train_root, classes)
    if test_root is None:
        return DataSource(train, None)
    return DataSource(train, dataset(test_root, _test_classes(test_root, classes)))


def _splits(directory: Path) -> tuple[Path, Path | None]:
    train = directory / "train"
    tests = [directory / name for name in ("test", "val") if (directory / name).is_dir()]
    if train.is_dir():
        return train, tests[0] if tests else None
    if tests:
        raise DataError.at(directory, f"has {tests[0].name}/ but no train/")
    return directory, None


def _test_classes(root: Path, classes: Sequence[str]) -> list[str]:
    names = _folders(root)
    if not names:
        raise DataError.at(root, "has no class folders")
    for name in names:
        if name not in classes:
            raise DataError.at(root / name, f"is no class of the {len(classes)} that are trained on")
    return names


def _folders(root: Path) -> list[str]:
    with os.scandir(root) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _images(root: Path, class_name: str) -> list[str]:
    """List the images of a class, at any depth, relative to root and sorted.

    A folder that links lead to again, perhaps in a circle, is listed where it is met first.
    """
    found, met = [], set()
    for folder, subfolders, names in os.walk(root / class_name, onerror=_refuse, followlinks=True):
        here = Path(folder).stat()
        if (here.st_dev, here.st_ino) in met:
            subfolders.clear()
            continue
        met.add((here.st_dev, here.st_ino))
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        inside = Path(folder).relative_to(root)
        found += [
            str(inside / name)
            for name in names
            if name.lower().endswith(ENDINGS) and not name.startswith(".")
        ]
    if not found:
        raise DataError.at(root / class_name, f"has no images; endings read are {', '.join(ENDINGS)}")
    return sorted(found)


def _refuse(error: OSError) -> None:
    """Make os.walk stop at a folder that cannot be read, instead of passing it over."""
    raise error
