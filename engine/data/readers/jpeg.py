"""JPEG by libjpeg-turbo, where it can be had without Pillow around it: the same pixels in less time."""

import threading

import numpy as np
from numpy.typing import NDArray

from engine.data.readers.image_file import Reduction, is_upright

_MOST_PIXELS = 89_478_485  # more Pillow warns of, or refuses
_PLAIN = ("YCbCr", "Gray")
_SEGMENTS, _SCAN = b"\xff\xd8", 0xDA
_BUFFERS = threading.local()
"""Of each thread, the memory that it decodes into: new memory, page by page, takes a fifth of the time."""


def decode_rgb(content: bytes, reduction: Reduction) -> tuple[NDArray[np.uint8], int, tuple[int, int]] | None:
    """Return uint8 [h, w, 3], by how much it is smaller than the image, and the image's (width, height).

    The pixels are valid until this thread decodes another image.

    None where Pillow must have a look: it is no JPEG, damaged, not upright, not plain, very large, or
    simplejpeg is not installed.
    """
    try:
        import simplejpeg  # noqa: PLC0415 -- an extra: only its users need it
    except ImportError:
        return None
    if not content.startswith(b"\xff\xd8\xff") or not is_upright(_header(content)):
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(content)
        if colours not in _PLAIN or height * width > _MOST_PIXELS:
            return None
        by = reduction(width, height)
        least = {"min_height": -(-height // by), "min_width": -(-width // by)} if by > 1 else {}
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            content, "RGB", buffer=_buffer(3 * (height + by) * (width + by)), **least
        )
    except ValueError:
        return None
    return pixels, by, (width, height)


def _header(content: bytes) -> bytes:
    """Return all of a JPEG up to its compressed pixels, in which nothing is said of the image."""
    at = len(_SEGMENTS)
    while at + 4 <= len(content) and content[at] == 0xFF and content[at + 1] != _SCAN:
        at += 2 + int.from_bytes(content[at + 2 : at + 4], "big")
    return content[:at]


def _buffer(size: int) -> NDArray[np.uint8]:
    """Return memory of the calling thread of a size, or more."""
    found: NDArray[np.uint8] | None = getattr(_BUFFERS, "pixels", None)
    if found is None or len(found) < size:
        found = _BUFFERS.pixels = np.empty(size, np.uint8)
    return found
