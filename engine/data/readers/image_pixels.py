"""One stored image as the pixels that a model wants: decoded, and a part of it sized."""

from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.config.files import read_bytes
from engine.data.frame import Box, Frame, Framing, Region, cover
from engine.data.readers.image_dataset import framed
from engine.data.readers.image_file import EncodedImage, Reduction, Stored, decode_reduced
from engine.data.readers.jpeg import decode_rgb

_COLOURS = 3
_FACTORS = (8, 4, 2)
_SHARPNESS = 2
"""JPEG is decoded smaller where a part is still so many times larger than what is made of it."""


def read_pixels(
    stored: Stored, *, channels: int, height: int, width: int, framing: Framing | None = None
) -> NDArray[np.uint8]:
    """Decode an image as RGB (3 channels) or grey (1), and resize a part of it: uint8 [C, H, W].

    The image is upright, as its EXIF says; of several frames it is the first.

    Parameters
    ----------
    framing
        Which part; None: the largest in the middle that has the shape of H x W.

    Raises
    ------
    DataError
        It is missing, empty, cut short, damaged, no image, or has more than 16 bits a channel.
    """
    part = lru_cache(maxsize=1)(framing or partial(cover, out_width=width, out_height=height))

    def reduction(image_width: int, image_height: int) -> int:
        left, upper, right, lower = part(image_width, image_height).box
        longer = min((right - left) / width, (lower - upper) / height)
        return next((factor for factor in _FACTORS if longer >= _SHARPNESS * factor), 1)

    image, by, size = _decoded(stored, channels, reduction)
    return framed(image, _reduced(part(*size), by, image.shape), height=height, width=width)


def _decoded(
    stored: Stored, channels: int, reduction: Reduction
) -> tuple[NDArray[np.uint8], int, tuple[int, int]]:
    """Return uint8 [h, w, C], by how much it is smaller than the image, and the image's (width, height)."""
    if channels == _COLOURS and not isinstance(stored, np.ndarray):
        content = _content(stored)
        quickly = content and decode_rgb(content, reduction)
        if quickly:
            return quickly
        if content is not None and isinstance(stored, Path):  # read once
            stored = EncodedImage(str(stored), content, stored.suffix.lower())
    image, by, size = decode_reduced(stored, "RGB" if channels == _COLOURS else "L", reduction)
    return np.asarray(image).reshape(image.height, image.width, channels), by, size


def _content(stored: Path | EncodedImage) -> bytes | None:
    """Return an image's bytes; None where they cannot be read, as the decoder will say."""
    if isinstance(stored, EncodedImage):
        return stored.content
    try:
        return read_bytes(stored)
    except (OSError, ValueError):
        return None


def _reduced(frame: Frame, by: int, shape: tuple[int, ...]) -> Frame:
    """Return the same part of an image that is smaller by a factor."""
    if by == 1:
        return frame
    left, upper, right, lower = frame.region
    region: Region = (left // by, upper // by, min(-(-right // by), shape[1]), min(-(-lower // by), shape[0]))
    across, down = left / by - region[0], upper / by - region[1]
    width, height = float(region[2] - region[0]), float(region[3] - region[1])
    box = frame.box
    smaller: Box = (
        box[0] / by + across, box[1] / by + down,
        min(box[2] / by + across, width), min(box[3] / by + down, height),
    )  # fmt: skip
    return replace(frame, region=region, box=smaller)
