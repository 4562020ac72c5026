"""Changes of colours: what they change, and that they are keyed."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from engine.data.recolour import Recolouring

KEYS = {"seed": 4, "epoch": 1, "sample": 7}


def photograph(channels: int = 3) -> np.ndarray:
    rows, columns = np.mgrid[:24, :32]
    waves = [128 + 100 * np.sin(rows / 5 + c) * np.cos(columns / (4 + c)) for c in range(channels)]
    return np.array(waves).astype(np.uint8)


def changed(recolouring: Recolouring, image: np.ndarray, **keys: int) -> np.ndarray:
    pixels = image.copy()
    recolouring.apply(pixels, **{**KEYS, **keys})
    return pixels


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "recolouring", [Recolouring(jitter=0.4), Recolouring(hue=0.2), Recolouring(operations=3, magnitude=15)]
)
def test_most_images_change_by_their_key_and_stay_images(recolouring, channels):
    image = photograph(channels)
    found = [changed(recolouring, image, sample=sample) for sample in range(40)]
    for sample, pixels in enumerate(found):
        assert pixels.shape == image.shape
        np.testing.assert_array_equal(changed(recolouring, image, sample=sample), pixels)
    different = len({pixels.tobytes() for pixels in found})
    assert different > 25 or (channels == 1 and recolouring.hue)
    if channels == 1 and recolouring.hue:
        assert different == 1  # grey has no hue
    else:
        other = [changed(recolouring, image, **key).tobytes() for key in ({"seed": 5}, {"epoch": 2})]
        assert len({found[7].tobytes(), *other}) > 1


def test_jitter_is_brightness_contrast_and_saturation_in_some_order():
    image = photograph()
    orders = set()
    for sample in range(200):
        found = changed(Recolouring(jitter=1e-9), image, sample=sample)
        assert np.abs(found.astype(int) - image).max() <= 1  # factors of nearly 1: what truncation takes
        orders.add(found.tobytes())
    lightness = [changed(Recolouring(jitter=0.8), image, sample=sample).mean() for sample in range(200)]
    assert min(lightness) < 0.5 * image.mean()
    assert max(lightness) > 1.2 * image.mean()


def test_jitter_of_a_flat_grey_image_is_its_brightness_alone():
    """Contrast and saturation leave it as it is, in any order."""
    flat = np.full((3, 4, 4), 100, np.uint8)
    for sample in range(20):
        found = changed(Recolouring(jitter=0.4), flat, sample=sample)
        assert (found == found[0, 0, 0]).all()
        assert 59 <= found[0, 0, 0] <= 140


def test_the_hue_turns_and_lightness_stays():
    red = np.zeros((3, 2, 2), np.uint8)
    red[0] = 200
    seen = {
        tuple(changed(Recolouring(hue=0.5), red, sample=sample)[:, 0, 0].tolist()) for sample in range(60)
    }
    assert len(seen) > 30
    assert {max(colour) for colour in seen} == {200}
    assert {min(colour) for colour in seen} == {0}


def test_every_operation_of_randaugment_occurs():
    """Each is told by what it makes of an image alone."""
    image = photograph()
    found = {
        changed(Recolouring(operations=1, magnitude=10), image, sample=sample).tobytes()
        for sample in range(400)
    }
    whole = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
    for kind in (ImageEnhance.Brightness, ImageEnhance.Color, ImageEnhance.Contrast, ImageEnhance.Sharpness):
        for factor in (1 + 0.9 * 10 / 30, 1 - 0.9 * 10 / 30):
            wanted = np.ascontiguousarray(np.asarray(kind(whole).enhance(factor)).transpose(2, 0, 1))
            assert wanted.tobytes() in found
    assert image.tobytes() in found  # identity
    # of 14 operations 10 have a sign: shear, translate (in 2 directions), rotate, the 4 above, and 4 without
    assert 14 <= len(found) <= 23
