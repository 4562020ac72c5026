"""One stored image, decoded by Pillow and turned upright."""

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engine.config.errors import UserError
from engine.config.files import check_regular
from engine.data.dataset import DataError

if TYPE_CHECKING:
    from PIL.Image import Image, Transpose

_BY_CONTENT = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "AVIF", "QOI")
"""Formats that begin with a mark of their own, so that the content decides; others by the ending."""
_NOT_READ = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
"""Formats that Pillow recognises only, or that another program would have to decode."""
_MARKS = (
    (".jpg", 0, b"\xff\xd8\xff"), (".png", 0, b"\x89PNG\r\n"), (".webp", 8, b"WEBP"), (".gif", 0, b"GIF8"),
    (".avif", 4, b"ftypavif"), (".jp2", 4, b"jP  "), (".j2k", 0, b"\xff\x4f\xff\x51"), (".tif", 0, b"II*\0"),
    (".tif", 0, b"MM\0*"), (".ppm", 0, b"P6"), (".pgm", 0, b"P5"), (".qoi", 0, b"qoif"), (".bmp", 0, b"BM"),
)  # fmt: skip
"""Endings of formats, and where which bytes are by which each is known."""
_ORIENTATION = 0x0112  # of EXIF
_ORIENTATIONS = range(2, 9)  # that are turned
_EXIF, _XMP_ORIENTATION = b"Exif\0\0", b"Orientation"
_KEEP_SIDES = (None, 0, 1, 3)  # Pillow's numbers of flips and half a turn: width and height stay
_REDUCED_BY_DECODER = ("JPEG", "MPO")

Reduction = Callable[[int, int], int]
"""``reduction(width, height)``: 1, 2, 4 or 8, by which an image may be made smaller while it is decoded."""


@dataclass(frozen=True)
class EncodedImage:
    """The content of an image file that lies in another file."""

    name: str
    """What errors call it: the file, and the entry in it."""
    content: bytes
    ending: str = ""
    """Of its own name, in lower case, ".jpg"; empty where it has none: then the content alone decides."""


Stored = Path | EncodedImage | NDArray[np.uint8]
"""An image: its file, the content of one, or its pixels, uint8 [H, W] in grey or [H, W, 3] in RGB."""


def load_pillow() -> None:
    """Import Pillow and silence its warnings about files that it decodes.

    The filter is set once, for the process: Python's scoped filters are not safe between threads.

    Raises
    ------
    UserError
        Pillow is not installed; the error says how to install it.
    """
    try:
        import PIL.Image  # noqa: F401, PLC0415 - an extra: only its users need it
    except ImportError as error:
        raise UserError(
            "images: Pillow is not installed; install it with pip install 'lockstep-sgd[data]'"
        ) from error
    warnings.filterwarnings("ignore", module=r"PIL\.")


def decoder_version() -> str:
    """Return the versions that decoded pixels depend on: Pillow's, and those of its lossy decoders."""
    from PIL import __version__, features  # noqa: PLC0415 - an extra: only its users need it

    decoders = {"JPEG": "jpg", "WebP": "webp", "JPEG 2000": "jpg_2000", "AVIF": "avif"}
    versions = [f"{name} {features.version(feature)}" for name, feature in decoders.items()]
    return ", ".join((f"Pillow {__version__}", *versions))


@cache
def image_endings() -> frozenset[str]:
    """Return the endings of files that `decode` reads, in lower case: ".jpg"."""
    return frozenset(_formats_by_ending())


@cache
def _formats(ending: str) -> tuple[str, ...]:
    """Return the formats that a file with this ending may have."""
    from PIL import Image  # noqa: PLC0415 - an extra: only its users need it

    wanted = (*_BY_CONTENT, _formats_by_ending().get(ending))
    return tuple(name for name in dict.fromkeys(wanted) if name in Image.OPEN)


@cache
def _formats_by_ending() -> dict[str, str]:
    from PIL import Image  # noqa: PLC0415 - an extra: only its users need it

    endings = Image.registered_extensions()
    return {ending: name for ending, name in endings.items() if name in Image.OPEN and name not in _NOT_READ}


def ending_by_content(content: bytes) -> str:
    """Return the ending of images that begin so, ".jpg"; empty where it is no format in wide use."""
    for ending, place, mark in _MARKS:
        if content[place : place + len(mark)] == mark:
            return ending
    return ""


def decode(stored: Stored, mode: str) -> "Image":
    """Return an image, upright and in its own size, in Pillow's mode "RGB" or "L".

    Of several frames it is the first.

    Raises
    ------
    DataError
        It is missing, empty, cut short, damaged, no image, or has more than 16 bits a channel.
    """
    return decode_reduced(stored, mode, lambda _width, _height: 1)[0]


def decode_reduced(stored: Stored, mode: str, reduction: Reduction) -> tuple["Image", int, tuple[int, int]]:
    """Return an image as `decode` does, by how much it is smaller (only JPEG ever is), and its own size."""
    from PIL import Image  # noqa: PLC0415 - an extra: only its users need it

    if isinstance(stored, np.ndarray):
        image = _convert(Image.fromarray(stored), mode)
        return image, 1, image.size
    name: str | Path = stored.name if isinstance(stored, EncodedImage) else stored
    ending = stored.ending if isinstance(stored, EncodedImage) else stored.suffix.lower()
    try:
        with Image.open(_file(stored), formats=_formats(ending)) as image:
            by, size = 1, None
            if image.format in _REDUCED_BY_DECODER:
                size = image.size if _turn(image) in _KEEP_SIDES else image.size[::-1]
                by = reduction(*size)
                image.draft(image.mode, (image.width // by, image.height // by))
            image.load()
            turn = _turn(image)  # only now: TIFF is upright already
            upright = image if turn is None else image.transpose(turn)
            return _convert(upright, mode), by, size or upright.size
    except Exception as error:  # a damaged file makes the decoders raise nearly anything
        raise DataError.at(name, f"cannot be decoded: {_problem(stored, error)}") from error


def _file(stored: Path | EncodedImage) -> Path | io.BytesIO:
    """Return what Pillow opens; OSError where a path leads to no regular file."""
    if isinstance(stored, EncodedImage):
        return io.BytesIO(stored.content)
    check_regular(stored)
    return stored


def is_upright(header: bytes) -> bool:
    """Say whether a JPEG with this header is stored as it is to be seen; False where that is not sure."""
    from PIL import Image  # noqa: PLC0415 - an extra: only its users need it

    start = header.find(_EXIF)
    if start < 0 or _XMP_ORIENTATION in header:
        return start < 0 and _XMP_ORIENTATION not in header
    exif = Image.Exif()
    try:
        exif.load(header[start:])
        return exif.get(_ORIENTATION, 1) not in _ORIENTATIONS
    except Exception:  # damaged EXIF makes it raise nearly anything
        return False


def _problem(stored: Path | EncodedImage, error: Exception) -> object:
    """Say what was wrong with the content of an image."""
    from PIL import UnidentifiedImageError  # noqa: PLC0415 - as above

    if isinstance(error, UnidentifiedImageError):
        size = stored.stat().st_size if isinstance(stored, Path) else len(stored.content)
        return "it is no image that Pillow reads" if size else "it is empty"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return error if str(error) else type(error).__name__


def _turn(image: "Image") -> "Transpose | None":
    """Return how an image is to be turned, as its EXIF says and viewers of images do; None: it is not."""
    from PIL.Image import Transpose  # noqa: PLC0415

    turns = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    try:
        return turns.get(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # of damaged EXIF, which says nothing then
        return None


def _convert(image: "Image", mode: str) -> "Image":
    """Convert to 8 bits a channel; 16-bit grey keeps its upper half, where Pillow would clip it."""
    if image.mode == "F":
        raise ValueError("it has pixels of 32-bit floats; must have 8 or 16 bits a channel")
    if not image.mode.startswith("I"):
        return image if image.mode == mode else image.convert(mode)
    from PIL import Image  # noqa: PLC0415

    deep = np.asarray(image).astype(np.int64)
    if deep.min() < 0 or deep.max() > 0xFFFF:
        raise ValueError(f"it has pixels from {deep.min()} to {deep.max()}; must be from 0 to 65535")
    return Image.fromarray((deep >> 8).astype(np.uint8)).convert(mode)
