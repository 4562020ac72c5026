"""What a network is asked about: image files, folders of them, and arrays; each sample can be read alone."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.config.errors import UserError
from engine.config.files import check_regular
from engine.data.dataset import DataError
from engine.data.frame import usual
from engine.data.preprocessing import Preprocessing
from engine.data.readers.image_file import image_endings, load_pillow
from engine.data.readers.image_pixels import read_pixels
from engine.data.readers.normalise import Normalisation
from layers.layer import Array

ARRAYS = ".npy"
"""Ending of files of arrays [N, *shape]."""


class Sample(Protocol):
    """One sample; several threads may read several samples at once."""

    @property
    def name(self) -> str:
        """What the user calls it."""

    def read(self, x: Array) -> None:
        """Overwrite x, float32 of the network's input shape; DataError where it cannot be read."""


@dataclass(frozen=True)
class Reading:
    """How samples become what a network reads: as in its training."""

    data: str
    """What it was trained on, for errors."""
    preprocessing: Preprocessing
    normalisation: Normalisation | None
    """From the pixels of the data; None where it had none."""

    @cached_property
    def of_images(self) -> Normalisation:
        """From the pixels of an image file."""
        if not self.preprocessing.takes_images:
            shape = ", ".join(map(str, self.preprocessing.sample_shape))
            raise UserError(
                f"images: the network was trained on {self.data}, and how an image becomes a sample of it is "
                f"not known; give arrays [N, {shape}] in .npy files"
            )
        load_pillow()
        return Normalisation.of_images(self.preprocessing)

    def samples_in(self, paths: Iterable[str | Path]) -> list[Sample]:
        """List the samples in files and folders, which are searched at any depth, in the order given.

        Raises
        ------
        UserError
            There are image files, and what their preprocessing was is not known; or Pillow is not installed.
        """
        return [sample for path in paths for sample in self._samples_in(Path(path))]

    def samples_of(self, array: NDArray[Any], name: str = "array") -> list[Sample]:
        """List the samples of an array: uint8 [N, *shape] are pixels, floats are what the network reads.

        Raises
        ------
        DataError
            It has another shape or type.
        """
        wanted = self.preprocessing.sample_shape
        is_pixels = array.dtype == np.uint8
        if array.ndim == 0 or array.shape[1:] != wanted or not (is_pixels or array.dtype.kind == "f"):
            listed = ", ".join(map(str, wanted))
            raise DataError.at(
                name, f"holds {array.dtype} {list(array.shape)}; must be float32 or uint8 [N, {listed}]"
            )
        if is_pixels and self.normalisation is None:
            raise DataError.at(
                name, f"holds pixels, uint8, and {self.data} has no preprocessing; give float32"
            )
        normalisation = self.normalisation if is_pixels else None
        return [_Row(f"{name}[{index}]", array, index, normalisation) for index in range(len(array))]

    def _samples_in(self, path: Path) -> Iterator[Sample]:
        name = str(path)
        if path.is_dir():
            try:
                found = list(_images_below(path))
            except OSError as error:
                yield _Bad(name, str(DataError.at(error.filename, f"cannot be read: {error.strerror}")))
                return
            if not found:
                yield _Bad(name, str(DataError.at(name, "holds no images")))
            for each in found:
                yield self._image(each)
        elif path.suffix.lower() == ARRAYS:
            try:
                yield from self.samples_of(_opened(path), name)
            except DataError as error:
                yield _Bad(name, str(error))
        else:
            yield self._image(path)

    def _image(self, path: Path) -> "_Image":
        return _Image(path, self.preprocessing, self.of_images)


@dataclass(frozen=True, eq=False)
class _Image:
    path: Path
    preprocessing: Preprocessing
    normalisation: Normalisation

    @property
    def name(self) -> str:
        return str(self.path)

    def read(self, x: Array) -> None:
        shape = channels, height, width = self.preprocessing.sample_shape
        framing = usual(shape, self.preprocessing.share)
        pixels = read_pixels(self.path, channels=channels, height=height, width=width, framing=framing)
        self.normalisation.apply(pixels, x)


@dataclass(frozen=True, eq=False)
class _Row:
    name: str
    array: NDArray[Any]
    index: int
    normalisation: Normalisation | None

    def read(self, x: Array) -> None:
        row = self.array[self.index]
        if self.normalisation is not None:
            self.normalisation.apply(row, x)
            return
        with np.errstate(over="ignore"):
            x[...] = row
        if not np.isfinite(x).all():
            raise DataError.at(self.name, "has values that are not finite")


@dataclass(frozen=True)
class _Bad:
    name: str
    error: str

    def read(self, x: Array) -> None:
        raise DataError(self.error)


def _opened(path: Path) -> NDArray[Any]:
    """Map a file of one array into memory; nothing in it is executed."""
    try:
        check_regular(path)
        return np.lib.format.open_memmap(path, mode="r")
    except OSError as error:
        raise DataError.at(path, f"cannot be read: {error.strerror or error}") from error
    except Exception as error:  # a damaged head makes its parser raise nearly anything
        raise DataError.at(path, f"cannot be read as an array: {error}") from error


def _images_below(folder: Path) -> Iterator[Path]:
    """Yield the images in a folder at any depth, sorted; what begins with a dot is passed over.

    Links are followed; a folder that they lead to again, perhaps in a circle, is listed once.
    """
    load_pillow()
    endings, met = image_endings(), set[tuple[int, int]]()
    for place, folders, files in os.walk(folder, onerror=_raise, followlinks=True):
        here = Path(place).stat()
        if (here.st_dev, here.st_ino) in met:
            folders.clear()
            continue
        met.add((here.st_dev, here.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in endings:
                yield Path(place) / name


def _raise(error: OSError) -> NoReturn:
    raise error
