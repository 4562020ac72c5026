"""One JPEG or PNG file, decoded, sized and cut to what the model wants."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engine.config.errors import UserError
from engine.data.dataset import DataError

if TYPE_CHECKING:
    from PIL.Image import Image


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
    """Return the versions that decoded pixels depend on: Pillow's, and that of its JPEG library."""
    from PIL import __version__, features  # noqa: PLC0415 - an extra: only its users need it

    return f"Pillow {__version__}, JPEG {features.version('jpg')}"


def read_pixels(path: Path, *, channels: int, height: int, width: int) -> NDArray[np.uint8]:
    """Decode an image as RGB (3 channels) or grey (1): uint8 [C, H, W].

    An image of another size is resized until it just covers H x W, and cut around its centre.

    Raises
    ------
    DataError
        The file is missing, empty, cut short, damaged, or neither JPEG nor PNG.
    """
    from PIL import Image  # noqa: PLC0415 - an extra: only its users need it

    try:
        with Image.open(path, formats=("JPEG", "PNG")) as image:
            image.load()
            decoded = _convert(image, "L" if channels == 1 else "RGB")
    except Exception as error:  # a damaged file makes the decoders raise nearly anything
        raise DataError.at(path, f"cannot be decoded: {error or type(error).__name__}") from error
    pixels = np.asarray(_cover(decoded, height=height, width=width))
    return pixels.reshape(height, width, channels).transpose(2, 0, 1)


def _convert(image: "Image", mode: str) -> "Image":
    """Convert to 8 bits a channel; 16-bit grey keeps its upper half, where Pillow would clip it."""
    if not image.mode.startswith("I"):
        return image if image.mode == mode else image.convert(mode)
    from PIL import Image  # noqa: PLC0415

    upper = (np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8)
    return Image.fromarray(upper).convert(mode)


def _cover(image: "Image", *, height: int, width: int) -> "Image":
    """Resize with bilinear weights from the largest centred box that has the shape of H x W."""
    if image.size == (width, height):
        return image
    from PIL.Image import Resampling  # noqa: PLC0415

    # The box is as wide or as high as the image; that side stays an integer, or rounding would exceed it.
    box_width, box_height = float(image.width), float(image.height)
    if image.width * height < image.height * width:
        box_height = image.width * height / width
    else:
        box_width = image.height * width / height
    left, upper = (image.width - box_width) / 2, (image.height - box_height) / 2
    box = (left, upper, image.width - left, image.height - upper)
    return image.resize((width, height), Resampling.BILINEAR, box=box)
