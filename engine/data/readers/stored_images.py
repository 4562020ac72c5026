"""Images that are decoded when they are read, whatever they lie in: the part that all such data shares."""

from abc import abstractmethod
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from engine.data.dataset import DataError
from engine.data.frame import Framing, usual
from engine.data.preprocessing import COVER, Preprocessing
from engine.data.readers.image_dataset import ImageDataset
from engine.data.readers.image_file import EncodedImage, Stored, decode, ending_by_content
from engine.data.readers.image_pixels import read_pixels
from engine.data.readers.normalise import Normalisation
from engine.data.readers.probe import needed

CACHE_BYTES = 1 << 30
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
GREY_MEAN = (0.449,)
GREY_STD = (0.226,)
_LOOKED_AT = 8


@dataclass(frozen=True, eq=False, kw_only=True)
class StoredImages(ImageDataset):
    """Images in any format and size, kept as bytes of the sample's shape if all of them fit the budget.

    They are turned upright, sized and normalised by ImageNet's published mean and deviation. So the same
    pictures are the same samples, whether they lie in folders, shards or tables. Several threads may read.

    Attributes
    ----------
    sample_shape
        (3, H, W) in colour or (1, H, W) in grey.
    labels
        int32 [N].
    share
        Of an image's shorter side, what is not cut off where no part at random is taken.
    cache
        uint8 [N, C, H, W], or [0, C, H, W] where the images do not fit; a row is written when first read.
    cached
        bool [N]: which rows of the cache are written.
    """

    READS_ON_THREADS: ClassVar[bool] = True
    ALWAYS_FINITE: ClassVar[bool] = True
    KEEPS_PIXELS: ClassVar[bool] = True
    """Decoding takes longer than recalling, and there may be a cache."""

    labels: NDArray[np.int32]
    share: float = 1.0
    normalisation: Normalisation = field(init=False)
    cache: NDArray[np.uint8] = field(init=False)
    cached: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        """Choose the normalisation, and make room for what is kept."""
        grey = self.sample_shape[0] == 1
        normalisation = Normalisation.of(
            mean=GREY_MEAN if grey else IMAGENET_MEAN, std=GREY_STD if grey else IMAGENET_STD
        )
        count = len(self.labels)
        fits = self.KEEPS_PIXELS and count * int(np.prod(self.sample_shape)) <= CACHE_BYTES
        object.__setattr__(self, "normalisation", normalisation)
        object.__setattr__(self, "cache", np.empty((count if fits else 0, *self.sample_shape), np.uint8))
        object.__setattr__(self, "cached", np.zeros(count, np.bool_))

    @abstractmethod
    def stored(self, index: int) -> Stored:
        """Return one image as it lies there, not decoded.

        Raises
        ------
        DataError
            What it lies in cannot be read.
        """

    def image(self, index: int, framing: Framing | None = None) -> tuple[NDArray[np.uint8], int]:
        """Decode or recall an image, and return its pixels and label."""
        pixels = self._pixels(index) if framing is None else self._decoded(index, framing)
        return pixels, int(self.labels[index])

    def inspect(self, index: int) -> tuple[int, tuple[int, ...]]:
        """Decode one image and return its label and its own shape, before it is sized."""
        channels = self.sample_shape[0]
        image = decode(self.stored(index), "L" if channels == 1 else "RGB")
        return int(self.labels[index]), (channels, image.height, image.width)

    @property
    def preprocessing(self) -> Preprocessing:
        """What is done to an image: it is turned upright, sized, cut and normalised."""
        all_of_it = self.normalisation.preprocessing(self.sample_shape, size=COVER, upright="EXIF")
        return replace(all_of_it, share=self.share)

    @property
    def decoders(self) -> tuple[str, ...]:
        """Return the decoders of formats: those of a few images, which lie all over the data."""
        few = {len(self) * part // _LOOKED_AT for part in range(_LOOKED_AT if len(self) else 0)}
        return needed(_ending(self, index) for index in sorted(few))

    def _pixels(self, index: int) -> NDArray[np.uint8]:
        if self.cached[index]:
            row: NDArray[np.uint8] = self.cache[index]
            return row
        pixels = self._decoded(index)
        if len(self.cache):
            self.cache[index] = pixels
            self.cached[index] = True  # last: another thread may look
        return pixels

    def _decoded(self, index: int, framing: Framing | None = None) -> NDArray[np.uint8]:
        channels, height, width = self.sample_shape
        taken = framing or usual(self.sample_shape, self.share)
        return read_pixels(self.stored(index), channels=channels, height=height, width=width, framing=taken)


def _ending(images: StoredImages, index: int) -> str:
    """Return the ending of an image's format; empty for pixels, and for what cannot be read."""
    try:
        stored = images.stored(index)
    except DataError:  # said when it is trained on
        return ""
    if isinstance(stored, EncodedImage):
        return stored.ending or ending_by_content(stored.content)
    return stored.suffix.lower() if isinstance(stored, Path) else ""
