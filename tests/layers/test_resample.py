"""Resized images against a plain reference in whole numbers, and against Pillow, pass by pass."""

import math

import numpy as np
import pytest
from PIL import Image

from layers.kernels.resample import resample

Box = tuple[float, float, float, float]

SIZES = [(50, 60), (1, 1), (1, 40), (37, 2), (23, 23)]
OUT = [(24, 24), (1, 1), (17, 90), (61, 5)]


def pixels_of(height: int, width: int, channels: int) -> np.ndarray:
    return np.random.default_rng(height + width).integers(0, 256, (height, width, channels), np.uint8)


def resized(pixels: np.ndarray, height: int, width: int, box: Box, region=None) -> np.ndarray:
    whole = (0, 0, pixels.shape[1], pixels.shape[0])
    out = np.full((pixels.shape[2], height, width), 77, np.uint8)
    resample(pixels, out, region=region or whole, box=box)
    return out


def one_axis(values: np.ndarray, start: float, stop: float, places: int) -> np.ndarray:
    """Resize along the first axis: triangles of weights, in fixed point of 22 bits, rounded to 8 bits."""
    start, stop = np.float32(start), np.float32(stop)
    scale = float(np.float32(stop - start)) / places
    support = max(scale, 1.0)
    made = []
    for place in range(places):
        centre = float(start) + (place + 0.5) * scale
        first = max(int(centre - support + 0.5), 0)
        last = min(int(centre + support + 0.5), len(values))
        weights = [max(0.0, 1 - abs((each - centre + 0.5) * (1 / support))) for each in range(first, last)]
        total = math.fsum(weights)
        fixed = [int(0.5 + weight / total * (1 << 22)) for weight in weights]
        summed = sum(w * values[first + t].astype(np.int64) for t, w in enumerate(fixed))
        made.append(np.clip((summed + (1 << 21)) >> 22, 0, 255))
    return np.array(made, np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("out", OUT)
def test_it_equals_the_reference_on_whole_images_and_boxes(size, out, channels):
    (height, width), pixels = size, pixels_of(*size, channels)
    for box in (
        (0.0, 0.0, float(width), float(height)),
        (0.2 * width, 0.3 * height, 0.9 * width, 0.7 * height),
    ):
        rows = one_axis(pixels.transpose(1, 0, 2), box[0], box[2], out[1]).transpose(1, 0, 2)
        wanted = one_axis(rows, box[1], box[3], out[0]).transpose(2, 0, 1)
        found = resized(pixels, *out, box)
        # the sum of weights may round another way: a weight by its last bit, a pixel in a tie
        assert np.abs(found.astype(int) - wanted).max() <= 1
        assert (found != wanted).mean() < 1e-3


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("box", [(0, 0, 131, 97), (3.25, 4.5, 120.75, 88.125), (40.1, 30.2, 44.3, 35.4)])
@pytest.mark.parametrize("out", [(64, 64), (7, 200), (224, 224)])
def test_it_is_pillows_to_the_bit(mode, box, out):
    """Newer versions of Pillow choose which axis comes first, so each is asked for alone."""
    image = Image.fromarray(pixels_of(97, 131, 3)).convert(mode)
    pixels = np.asarray(image).reshape(97, 131, -1)
    left, upper, right, lower = box
    rows = image.resize((out[1], 97), Image.Resampling.BILINEAR, box=(left, 0, right, 97))
    both = rows.resize((out[1], out[0]), Image.Resampling.BILINEAR, box=(0, upper, out[1], lower))
    wanted = np.asarray(both).reshape(*out, -1).transpose(2, 0, 1)
    np.testing.assert_array_equal(resized(pixels, *out, box), wanted)


def test_only_pixels_of_the_region_count():
    pixels = pixels_of(30, 40, 3)
    for region in ((0, 0, 40, 30), (5, 7, 18, 23), (39, 29, 40, 30), (0, 11, 40, 30)):
        left, upper, right, lower = region
        cut = np.ascontiguousarray(pixels[upper:lower, left:right])
        box = (0.0, 0.0, float(right - left), float(lower - upper))
        np.testing.assert_array_equal(resized(pixels, 9, 14, box, region), resized(cut, 9, 14, box))


def test_a_mirrored_image_is_the_other_one_turned_left_to_right():
    pixels = pixels_of(30, 40, 3)
    out = np.empty((3, 9, 14), np.uint8)
    resample(pixels, out, region=(3, 4, 37, 29), box=(0.5, 0, 33, 24), mirrored=True)
    np.testing.assert_array_equal(out[:, :, ::-1], resized(pixels, 9, 14, (0.5, 0, 33, 24), (3, 4, 37, 29)))


def test_an_image_of_its_own_size_stays_as_it_is_and_white_stays_white():
    pixels = pixels_of(19, 33, 3)
    np.testing.assert_array_equal(resized(pixels, 19, 33, (0, 0, 33, 19)), pixels.transpose(2, 0, 1))
    white = np.full((300, 500, 3), 255, np.uint8)
    assert (resized(white, 3, 224, (0, 0, 500, 300)) == 255).all()


def test_memory_around_an_image_is_not_read_into_it():
    """The last pixels' loads go beyond them: what lies there must not matter."""
    large = np.full(30 * 40 * 3 + 64, 255, np.uint8)
    pixels = large[: 30 * 40 * 3].reshape(30, 40, 3)
    pixels[...] = pixels_of(30, 40, 3)
    with_white = resized(pixels, 12, 12, (0, 0, 40, 30))
    large[30 * 40 * 3 :] = 0
    np.testing.assert_array_equal(resized(pixels, 12, 12, (0, 0, 40, 30)), with_white)
