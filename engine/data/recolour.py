"""Changes of colours and shapes by Pillow's operations, as torchvision's: jitter and RandAugment."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from engine.data.counter import Stream, random_words
from engine.data.draws import fraction

if TYPE_CHECKING:
    from PIL.Image import Image

_MOST_MAGNITUDE = 30
_FAR = 150 / 331  # of the width or height
_HALF = 0.5
_JITTERS = 4
MOST_OPERATIONS = 8


@dataclass(frozen=True)
class Recolouring:
    """What changes an image's pixels, before they are normalised.

    Attributes
    ----------
    jitter
        Brightness, contrast and saturation are multiplied by numbers from 1 - jitter to 1 + jitter, in an
        order of their own.
    hue
        Colours are turned by up to this share of the circle, to either side.
    operations, magnitude
        RandAugment: so many operations in turn, of a magnitude from 0 to 30.
    """

    jitter: float = 0.0
    hue: float = 0.0
    operations: int = 0
    magnitude: int = 0

    def apply(self, pixels: NDArray[np.uint8], *, seed: int, epoch: int, sample: int) -> None:
        """Change uint8 [C, H, W] in place."""
        from PIL import Image  # noqa: PLC0415 -- an extra: only its users need it

        words = _fractions(seed, epoch, sample)
        image = Image.fromarray(
            pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0))
        )
        for change in (
            *self._jitters(words[: 2 * _JITTERS]),
            *self._random_operations(words[2 * _JITTERS :]),
        ):
            image = change(image)
        pixels[...] = np.asarray(image).reshape(*pixels.shape[1:], len(pixels)).transpose(2, 0, 1)

    def _jitters(self, words: Sequence[float]) -> list[Callable[[Image], Image]]:
        """Return the changes by numbers near 1, and of the hue, in an order of their own."""
        chosen, order = words[:_JITTERS], words[_JITTERS:]
        by = [max(0.0, 1 + self.jitter * (2 * word - 1)) for word in chosen]
        changes: list[Callable[[Image], Image]] = []
        if self.jitter:
            names = ("brightness", "contrast", "saturation")
            changes += [partial(_enhanced, name, factor) for name, factor in zip(names, by, strict=False)]
        if self.hue:
            changes.append(partial(_turned_hue, self.hue * (2 * chosen[-1] - 1)))
        return [change for _, change in sorted(zip(order, changes, strict=False), key=lambda pair: pair[0])]

    def _random_operations(self, words: Sequence[float]) -> list[Callable[[Image], Image]]:
        pairs = list(zip(words[::2], words[1::2], strict=True))[: self.operations]
        operations, share = tuple(_OPERATIONS.values()), self.magnitude / _MOST_MAGNITUDE
        return [
            _with_share(operations[int(which * len(operations))], -share if sign < _HALF else share)
            for which, sign in pairs
        ]


def _fractions(seed: int, epoch: int, sample: int) -> list[float]:
    count = 2 * _JITTERS + 2 * MOST_OPERATIONS
    words = random_words(Stream.COLOUR, count, seed=seed, counter=(sample, epoch)).tolist()
    return [fraction(word >> 11 << 11) for word in words]  # below 1, also rounded


def _enhanced(what: str, factor: float, image: Image) -> Image:
    from PIL import ImageEnhance  # noqa: PLC0415 -- an extra: only its users need it

    kind = {
        "brightness": ImageEnhance.Brightness,
        "contrast": ImageEnhance.Contrast,
        "saturation": ImageEnhance.Color,
        "sharpness": ImageEnhance.Sharpness,
    }[what]
    return kind(image).enhance(factor)


def _turned_hue(by: float, image: Image) -> Image:
    """Turn the colours by a share of the circle; grey stays as it is."""
    if image.mode == "L":
        return image
    from PIL import Image as Images  # noqa: PLC0415 -- an extra: only its users need it

    hue, saturation, value = image.convert("HSV").split()
    turned = Images.fromarray(np.asarray(hue) + np.uint8(int(by * 255) % 256))
    return Images.merge("HSV", (turned, saturation, value)).convert(image.mode)


def _with_share(operation: Callable[[Image, float], Image], share: float) -> Callable[[Image], Image]:
    return lambda image: operation(image, share)


def _affine(image: Image, *inverse: float) -> Image:
    """Move pixels to the nearest places; what lies outside of the image is black."""
    from PIL.Image import Resampling, Transform  # noqa: PLC0415 -- an extra: only its users need it

    return image.transform(image.size, Transform.AFFINE, inverse, Resampling.NEAREST)


def _by_ops(name: str, image: Image, *arguments: int) -> Image:
    """Call one of Pillow's ImageOps."""
    from PIL import ImageOps  # noqa: PLC0415 -- an extra: only its users need it

    done: Image = getattr(ImageOps, name)(image, *arguments)
    return done


_OPERATIONS: dict[str, Callable[[Image, float], Image]] = {
    "identity": lambda image, _: image,
    "shear_x": lambda image, share: _affine(image, 1, 0.3 * share, 0, 0, 1, 0),
    "shear_y": lambda image, share: _affine(image, 1, 0, 0, 0.3 * share, 1, 0),
    "translate_x": lambda image, share: _affine(image, 1, 0, -int(_FAR * image.width * share), 0, 1, 0),
    "translate_y": lambda image, share: _affine(image, 1, 0, 0, 0, 1, -int(_FAR * image.height * share)),
    "rotate": lambda image, share: image.rotate(30 * share),
    "brightness": lambda image, share: _enhanced("brightness", 1 + 0.9 * share, image),
    "saturation": lambda image, share: _enhanced("saturation", 1 + 0.9 * share, image),
    "contrast": lambda image, share: _enhanced("contrast", 1 + 0.9 * share, image),
    "sharpness": lambda image, share: _enhanced("sharpness", 1 + 0.9 * share, image),
    "posterize": lambda image, share: _by_ops("posterize", image, 8 - round(4 * abs(share))),
    "solarize": lambda image, share: _by_ops("solarize", image, math.ceil(255 * (1 - abs(share)))),
    "autocontrast": lambda image, _: _by_ops("autocontrast", image),
    "equalize": lambda image, _: _by_ops("equalize", image),
}
"""Those of RandAugment (Cubuk et al. 2020, arXiv:1909.13719), with a share from -1 to 1 of the most."""
