"""Folders of images, one folder a class."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.config.wording import counted, printable
from engine.data.dataset import DataError, DataSource, digest
from engine.data.readers.image_file import image_endings, load_pillow
from engine.data.readers.image_listing import Layout, Listing, has_folders
from engine.data.readers.name_table import NameTable
from engine.data.readers.probe import needed
from engine.data.readers.stored_images import StoredImages


@dataclass(frozen=True, eq=False, kw_only=True)
class ImageFolder(StoredImages):
    """Images that are files of their own.

    Attributes
    ----------
    root
        The folder that the names begin in: of the class folders.
    files
        The images, names relative to `root`; of class folders sorted by class and then by path.
    """

    root: Path
    files: NameTable

    def stored(self, index: int) -> Path:
        """Return the path of an image."""
        return self.root / self.files[index]

    @property
    def decoders(self) -> tuple[str, ...]:
        """Return the decoders of the files' formats, by their endings."""
        return needed(self.files)

    def fingerprint(self) -> str:
        """Hash names and labels; the images themselves are not read for it."""
        return digest(b"\0".join(self.files.encoded()), self.labels)


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
    listing = Listing(image_endings())
    layout = listing.layout(directory)
    classes = layout.classes
    if len(classes) < least_classes:
        raise DataError.at(layout.train, _too_few(layout, directory, least_classes))

    def dataset(root: Path, names: Sequence[str]) -> ImageFolder:
        found = {name: listing.images(root, name) for name in names}
        labels = [classes.index(name) for name in names]
        files = NameTable(file for name in names for file in found[name])
        return ImageFolder(
            name="images",
            sample_shape=sample_shape,
            classes=len(classes),
            class_names=tuple(map(printable, classes)),
            root=root,
            files=files,
            labels=np.repeat(np.array(labels, np.int32), [len(found[name]) for name in names]),
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
