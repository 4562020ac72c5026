"""Folders of images, one folder a class."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from engine.config.wording import counted, printable
from engine.data.dataset import DataError, Dataset, DataSource, digest
from engine.data.preprocessing import COVER, Preprocessing
from engine.data.readers.image_file import decode, image_endings, load_pillow, read_pixels
from engine.data.readers.image_listing import Layout, Listing, has_folders
from engine.data.readers.normalise import Normalisation
from engine.data.readers.probe import needed

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

    READS_ON_THREADS: ClassVar[bool] = True
    ALWAYS_FINITE: ClassVar[bool] = True

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

    def inspect(self, index: int) -> tuple[int, tuple[int, ...]]:
        """Decode one image and return its label and its own shape, before it is sized."""
        channels = self.sample_shape[0]
        image = decode(self.root / self.files[index], "L" if channels == 1 else "RGB")
        return int(self.labels[index]), (channels, image.height, image.width)

    @property
    def preprocessing(self) -> Preprocessing:
        """What is done to an image: it is turned upright, sized, cut and normalised."""
        return self.normalisation.preprocessing(self.sample_shape, size=COVER, upright="EXIF")

    @property
    def decoders(self) -> tuple[str, ...]:
        """Return the decoders of the files' formats, by their endings."""
        return needed(self.files)

    @property
    def classes_present(self) -> int:
        """Count the class folders that this split has."""
        return len(np.unique(self.labels))

    def all_labels(self) -> NDArray[np.int32]:
        """Return the labels."""
        return self.labels

    def fingerprint(self) -> str:
        """Hash names and labels; the images themselves are not read for it."""
        return digest(b"\0".join(map(os.fsencode, self.files)), self.labels)

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


def open_image_folder(
    directory: Path, sample_shape: tuple[int, int, int], *, least_classes: int = 2
) -> DataSource:
    """List the images of a folder as samples of shape (3, H, W) in colour or (1, H, W) in grey.

    The folder holds class folders; or a training set of class folders (train/ or training/, in any case)
    and, for testing, test/, val/ or the like with some of the same classes. The label of a class is its
    place among the sorted names. Links are followed. Names that start with a dot are passed over, as are
    files with endings of no image; the source's notes count them. Pixels are normalised by ImageNet's
    published mean and deviation, and kept in memory if those of a data set fit CACHE_BYTES.

    Parameters
    ----------
    directory
        The folder.
    sample_shape
        Images of another size are resized to cover it and cut around the centre.
    least_classes
        Fewer class folders are refused.
    """
    load_pillow()
    if not directory.is_dir():
        raise DataError.no_folder(directory, "images:DIR wants a folder of class folders")
    grey = sample_shape[0] == 1
    normalisation = Normalisation.of(
        mean=GREY_MEAN if grey else IMAGENET_MEAN, std=GREY_STD if grey else IMAGENET_STD
    )
    listing = Listing(image_endings())
    layout = listing.layout(directory)
    classes = layout.classes
    if len(classes) < least_classes:
        raise DataError.at(layout.train, _too_few(layout, directory, least_classes))

    def dataset(root: Path, names: Sequence[str]) -> ImageFolder:
        found = {name: listing.images(root, name) for name in names}
        labels = [classes.index(name) for name in names]
        files = tuple(file for name in names for file in found[name])
        kept = len(files) if len(files) * int(np.prod(sample_shape)) <= CACHE_BYTES else 0
        return ImageFolder(
            name="images",
            sample_shape=sample_shape,
            classes=len(classes),
            class_names=tuple(map(printable, classes)),
            root=root,
            files=files,
            labels=np.repeat(np.array(labels, np.int32), [len(found[name]) for name in names]),
            normalisation=normalisation,
            cache=np.empty((kept, *sample_shape), np.uint8),
            cached=np.zeros(len(files), np.bool_),
        )

    train, test = dataset(layout.train, classes), None
    if layout.test is not None:
        test = dataset(layout.test, listing.tested_classes(layout.test, classes))
    passed = listing.passed.line()
    return DataSource(train, test, notes=(f"images: {passed}",) if passed else ())


def _too_few(layout: Layout, directory: Path, least: int) -> str:
    """Say that there are too few classes, and what was perhaps meant."""
    problem = f"has {counted(len(layout.classes), 'class folder')}; must be at least {least}"
    if layout.train != directory:
        return f"{problem}; a folder of this name is the training set, not a class"
    if layout.classes and has_folders(directory / layout.classes[0]):
        return f"{problem}; perhaps {printable(directory / layout.classes[0])} is meant"
    return problem
