"""JPEG by libjpeg-turbo, where it can be had without Pillow around it: the same pixels in less time."""

import numpy as np
from numpy.typing import NDArray

from engine.data.readers.image_file import Reduction, is_upright

_MOST_PIXELS = 89_478_485  # more Pillow warns of, or refuses
_PLAIN = ("YCbCr", "Gray")


def decode_rgb(content: bytes, reduction: Reduction) -> tuple[NDArray[np.uint8], int, tuple[int, int]] | None:
    """Return uint8 [h, w, 3], by how much it is smaller than the image, and the image's (width, height).

    None where Pillow must have a look: it is no JPEG, damaged, not upright, not plain, very large, or
    simplejpeg is not installed.
    """
    try:
        import simplejpeg  # noqa: PLC0415 -- an extra: only its users need it
    except ImportError:
        return None
    if not content.startswith(b"\xff\xd8\xff") or not is_upright(content):
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
        if colours not in _PLAIN or height * width > _MOST_PIXELS:
            return None
        by = reduction(width, height)
        least = {"min_height": -(-height // by), "min_width": -(-width // by)} if by > 1 else {}
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(content, "RGB", **least)
    except ValueError:
        return None
    return pixels, by, (width, height)
