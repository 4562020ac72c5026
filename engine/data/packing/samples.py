"""Samples as they are copied from one data set into another: encoded images, and their labels."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.config.errors import UserError
from engine.config.files import read_bytes
from engine.data.dataset import DataError, Dataset
from engine.data.readers.image_file import EncodedImage, Stored, decode, ending_by_content
from engine.data.readers.in_memory import InMemoryImages
from engine.data.readers.stored_images import StoredImages

_WHITE = 255


@dataclass(frozen=True)
class Sample:
    """One image as it will lie in the new data set."""

    content: bytes
    ending: str
    """".jpg"; empty where it is not known."""
    label: int

    def digest(self) -> bytes:
        """Hash content and label."""
        return hashlib.sha256(b"%d\0" % self.label + self.content).digest()


@dataclass(frozen=True)
class Taking:
    """How images are taken: as they are, or no larger than `resize` pixels at their shorter side (0: any)."""

    resize: int = 0
    quality: int = 95
    """Of the JPEG files that resized images become."""

    def sample(self, data: Dataset, labels: NDArray[np.int64], index: int) -> Sample:
        """Return one sample of a data set; pixels become PNG.

        Raises
        ------
        DataError
            It cannot be read, or, where it is resized, decoded.
        """
        content, ending = self._encoded(_stored(data, index))
        return Sample(content, ending, int(labels[index]))

    def _encoded(self, stored: Stored) -> tuple[bytes, str]:
        if self.resize:
            resized = _resized(stored, self.resize, self.quality)
            if resized is not None:
                return resized, ".jpg"
        if isinstance(stored, np.ndarray):
            return _png(stored), ".png"
        if isinstance(stored, EncodedImage):
            return stored.content, stored.ending or ending_by_content(stored.content)
        try:
            return read_bytes(stored), stored.suffix.lower()
        except OSError as error:
            raise DataError.at(stored, f"cannot be read: {error.strerror}") from error


def check_images(data: Dataset) -> None:
    """Raise UserError where a data set has no images that could be copied."""
    if isinstance(data, StoredImages):
        return
    if not isinstance(data, InMemoryImages) or data.normalisation.white != _WHITE:
        raise UserError(f"pack: {data.name} has no images of 8 bits a channel, which are what is packed")


def _stored(data: Dataset, index: int) -> Stored:
    if isinstance(data, StoredImages):
        return data.stored(index)
    assert isinstance(data, InMemoryImages), "check_images has refused others"
    planes: NDArray[np.uint8] = data.pixels[index]
    return planes[0] if len(planes) == 1 else np.ascontiguousarray(planes.transpose(1, 2, 0))


def _resized(stored: Stored, side: int, quality: int) -> bytes | None:
    """Return an image as JPEG whose shorter side has so many pixels; None where it has no more already."""
    from PIL import Image  # noqa: PLC0415 - an extra: only its users need it

    image = decode(stored, "RGB")
    shorter = min(image.size)
    if shorter <= side:
        return None
    if _is_grey(stored):
        image = image.convert("L")
    width, height = (max(1, round(size * side / shorter)) for size in image.size)
    content = io.BytesIO()
    image.resize((width, height), Image.Resampling.BICUBIC).save(content, "JPEG", quality=quality)
    return content.getvalue()


def _is_grey(stored: Stored) -> bool:
    from PIL import Image  # noqa: PLC0415 - as above

    if isinstance(stored, np.ndarray):
        return stored.ndim == 2
    with Image.open(io.BytesIO(stored.content) if isinstance(stored, EncodedImage) else stored) as image:
        return image.mode in ("1", "L")


def _png(pixels: NDArray[np.uint8]) -> bytes:
    from PIL import Image  # noqa: PLC0415 - as above

    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    return content.getvalue()


def file_ending(sample: Sample, place: Path | str) -> str:
    """Return the ending that a sample's file gets.

    Raises
    ------
    DataError
        Nothing says which format it has.
    """
    if not sample.ending:
        raise DataError.at(place, "is no image of a format that is known by its content, so it gets no name")
    return sample.ending
