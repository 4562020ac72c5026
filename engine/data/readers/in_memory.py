"""Images held in memory as bytes, as several readers return them."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from engine.data.dataset import DataError, digest
from engine.data.frame import Framing
from engine.data.preprocessing import AS_STORED, Preprocessing
from engine.data.readers.image_dataset import ImageDataset, framed
from engine.data.readers.normalise import Normalisation
from engine.host.memory_limit import room


def check_room(path: Path, needed: int) -> None:
    """Refuse samples, before they are read, that memory has no room for: files may be sparse.

    Raises
    ------
    DataError
        Says how many bytes are needed, and how many there are.
    """
    if needed > (there := room()):
        raise DataError.at(
            path, f"holds {needed / 1e9:,.1f} GB, of which memory has {there / 1e9:,.1f} GB left"
        )


@dataclass(frozen=True, eq=False)
class InMemoryImages(ImageDataset):
    """Pixels (uint8 [N, C, H, W]) and labels ([N]), normalised when they are read."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    normalisation: Normalisation

    ALWAYS_FINITE: ClassVar[bool] = True

    def __len__(self) -> int:
        return len(self.pixels)

    def image(self, index: int, framing: Framing | None = None) -> tuple[NDArray[np.uint8], int]:
        """Return an image, or a part of it, and its label."""
        pixels = self.pixels[index]
        if framing is not None:
            _, height, width = pixels.shape
            upright = np.ascontiguousarray(pixels.transpose(1, 2, 0))
            pixels = framed(upright, framing(width, height), height=height, width=width)
        return pixels, int(self.labels[index])

    @property
    def preprocessing(self) -> Preprocessing:
        """What is done to an image: it is normalised."""
        return self.normalisation.preprocessing(self.sample_shape, size=AS_STORED)

    def fingerprint(self) -> str:
        """Hash pixels and labels."""
        return digest(self.pixels, self.labels)
