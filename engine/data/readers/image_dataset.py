"""Data sets of images, of which a part can be asked for."""

from abc import abstractmethod

import numpy as np
from numpy.typing import NDArray

from engine.data.dataset import Labelled
from engine.data.frame import Frame, Framing
from engine.data.readers.normalise import Normalisation


class ImageDataset(Labelled):
    """Samples that are made of stored images: of a part of each, which can be asked for."""

    normalisation: Normalisation

    @abstractmethod
    def image(self, index: int, framing: Framing | None = None) -> tuple[NDArray[np.uint8], int]:
        """Return the pixels, uint8 `sample_shape`, of a part of an image, and its label.

        Parameters
        ----------
        framing
            Which part; None: that which `read` takes. The pixels may be kept: they are not to be changed.

        Raises
        ------
        DataError
            The image cannot be read.
        """

    def read(self, index: int, x: NDArray[np.float32]) -> int:
        """Normalise an image's pixels into x and return its label."""
        pixels, label = self.image(index)
        self.normalisation.apply(pixels, x)
        return label


def framed(image: NDArray[np.uint8], frame: Frame, *, height: int, width: int) -> NDArray[np.uint8]:
    """Return a part of an image, uint8 [h, w, C], resized with bilinear weights: uint8 [C, H, W]."""
    left, upper, right, lower = frame.region
    if (right - left, lower - upper) == (width, height) and frame.box == (
        0.0,
        0.0,
        float(width),
        float(height),
    ):
        part = image[upper:lower, left:right]
        return np.array((part[:, ::-1] if frame.is_mirrored else part).transpose(2, 0, 1), order="C")
    from layers.kernels.resample import resample  # noqa: PLC0415 -- it imports numba

    out = np.empty((image.shape[2], height, width), np.uint8)
    resample(image, out, region=frame.region, box=frame.box, mirrored=frame.is_mirrored)
    return out
