"""Which part of an image becomes a sample: all that fits, the middle, or a part at random."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from engine.data.counter import Stream, random_words
from engine.data.draws import between, ratio

Region = tuple[int, int, int, int]
"""(left, upper, right, lower), in pixels of the image."""
Box = tuple[float, float, float, float]
"""The same, in pixels and parts of them, from the region's left upper corner."""

_TRIES = 10
_LOG_OF_RATIO = 0.28768207245178085  # ln(4/3): widths and heights are at most in this ratio


@dataclass(frozen=True)
class Frame:
    """A part of an image: the box is resized to the sample, from pixels of the region only."""

    region: Region
    box: Box
    is_mirrored: bool = False
    """The sample is the part's mirror image, left to right."""


Framing = Callable[[int, int], Frame]
"""``framing(width, height)`` of an image, upright."""


def usual(sample_shape: tuple[int, ...], share: float) -> Framing:
    """Return what takes the middle of an image: all that fits, or this share of it."""
    size = {"out_width": sample_shape[2], "out_height": sample_shape[1]}
    return partial(cover, **size) if share == 1 else partial(middle, **size, share=share)


def cover(width: int, height: int, *, out_width: int, out_height: int) -> Frame:
    """Return the largest box in the middle that has the sample's shape."""
    # The box is as wide or as high as the image; that side stays an integer, or rounding would exceed it.
    box_width, box_height = float(width), float(height)
    if width * out_height < height * out_width:
        box_height = width * out_height / out_width
    else:
        box_width = height * out_width / out_height
    left, upper = (width - box_width) / 2, (height - box_height) / 2
    return Frame((0, 0, width, height), (left, upper, width - left, height - upper))


def middle(width: int, height: int, *, out_width: int, out_height: int, share: float) -> Frame:
    """Return what is left where the shorter side is resized to the sample's, by the share, and then cut.

    A share of 0.875 is 224 pixels of 256, of which the larger side has its part in whole pixels, and the
    cut begins at a whole pixel: torchvision's ``Resize(256)`` and ``CenterCrop(224)``.
    """
    shorter = round(min(out_width, out_height) / share)
    whole = max(out_width, shorter), max(out_height, shorter)
    if width <= height:
        sized = whole[0], max(whole[1], int(whole[0] * height / width))
    else:
        sized = max(whole[0], int(whole[1] * width / height)), whole[1]
    left, upper = round((sized[0] - out_width) / 2), round((sized[1] - out_height) / 2)
    across, down = width / sized[0], height / sized[1]
    box = (left * across, upper * down, (left + out_width) * across, (upper + out_height) * down)
    return Frame((0, 0, width, height), (*box[:2], min(box[2], float(width)), min(box[3], float(height))))


def random_part(width: int, height: int, *, least: float, seed: int, epoch: int, sample: int) -> Frame:
    """Return a part at random, of a share of the area from `least` to 1 and a shape from 3:4 to 4:3.

    Szegedy et al. 2015, arXiv:1409.4842, section 6; as in torchvision's ``RandomResizedCrop``: of ten parts
    that are drawn the first that fits, else the largest in the middle whose shape is allowed.
    """
    words = random_words(Stream.FRAME, 2 * _TRIES + 2, seed=seed, counter=(sample, epoch)).tolist()
    *drawn, across, down = words
    for of_area, of_shape in zip(drawn[::2], drawn[1::2], strict=True):
        area = width * height * between(of_area, least, 1.0)
        shape = ratio(of_shape, -_LOG_OF_RATIO, _LOG_OF_RATIO)
        wide, high = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
        if 0 < wide <= width and 0 < high <= height:
            left, upper = across % (width - wide + 1), down % (height - high + 1)
            return _whole(left, upper, wide, high)
    wide, high = min(width, max(1, round(height * 4 / 3))), min(height, max(1, round(width * 4 / 3)))
    return _whole((width - wide) // 2, (height - high) // 2, wide, high)


def _whole(left: int, upper: int, width: int, height: int) -> Frame:
    return Frame((left, upper, left + width, upper + height), (0.0, 0.0, float(width), float(height)))
