"""Parts of images: the middle, and parts at random."""

import math

import numpy as np
import pytest

from engine.data.frame import cover, middle, random_part

SIZES = [(500, 375), (375, 500), (224, 224), (40, 900), (900, 40), (1, 1), (3, 2)]


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_parts_at_random_lie_inside_and_have_the_areas_and_shapes_that_are_allowed(width, height):
    drawn = [random_part(width, height, least=0.2, seed=3, epoch=1, sample=s) for s in range(400)]
    for frame in drawn:
        left, upper, right, lower = frame.region
        assert 0 <= left < right <= width
        assert 0 <= upper < lower <= height
        assert frame.box == (0, 0, right - left, lower - upper)
        # rounded sides; and in images that are too long or too small for all ten, what fits in the middle
        if min(width, height) > 200:
            assert 0.195 <= (right - left) * (lower - upper) / (width * height) <= 1
            assert 0.74 < (right - left) / (lower - upper) < 1.35


def test_areas_and_shapes_are_anywhere_in_their_ranges_as_often():
    parts = [random_part(2000, 2000, least=0.08, seed=0, epoch=0, sample=s).region for s in range(4000)]
    sides = np.array([(right - left, lower - upper) for left, upper, right, lower in parts], float)
    ratios = np.log(sides[:, 0] / sides[:, 1])
    # of large areas only the shapes that fit stay, which are the squarer ones
    small = sides.prod(axis=1) < 0.5 * 2000**2
    for values, least, most in (
        (ratios[small], -math.log(4 / 3), math.log(4 / 3)),
        (sides[small].prod(axis=1) / 2000**2, 0.08, 0.5),
    ):
        counts, _ = np.histogram(values, 5, (least - 1e-3, most + 1e-3))
        assert (abs(counts / len(values) - 0.2) < 0.03).all()


def test_a_part_depends_on_seed_epoch_and_sample_only():
    keys = [(seed, epoch, sample) for seed in range(3) for epoch in range(3) for sample in range(5)]
    parts = {key: random_part(640, 480, least=0.1, seed=key[0], epoch=key[1], sample=key[2]) for key in keys}
    assert len(set(parts.values())) == len(keys)
    for seed, epoch, sample in reversed(keys):
        again = random_part(640, 480, least=0.1, seed=seed, epoch=epoch, sample=sample)
        assert again == parts[seed, epoch, sample]


def test_the_first_draws_are_what_they_were():
    """Recipes' bits hang on them."""
    drawn = [random_part(500, 375, least=0.08, seed=1, epoch=2, sample=s).region for s in range(3)]
    assert drawn == [(107, 8, 477, 363), (11, 6, 488, 366), (24, 94, 214, 299)]


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_box_that_covers_is_the_largest_of_its_shape_in_the_middle(width, height):
    frame = cover(width, height, out_width=32, out_height=24)
    left, upper, right, lower = frame.box
    assert left == pytest.approx(width - right)
    assert upper == pytest.approx(height - lower)
    assert (right - left) / (lower - upper) == pytest.approx(32 / 24)
    assert left == 0 or upper == 0


@pytest.mark.parametrize(("width", "height"), [(500, 375), (375, 500), (256, 256), (3000, 2001), (300, 4000)])
def test_the_middle_is_that_of_resize_256_and_centre_crop_224(width, height):
    """In whole pixels of the resized image, as torchvision's, written out here again."""
    sized = (256, int(256 * height / width)) if width <= height else (int(256 * width / height), 256)
    left, upper = (round((side - 224) / 2) for side in sized)
    wanted = (
        left * width / sized[0], upper * height / sized[1],
        (left + 224) * width / sized[0], (upper + 224) * height / sized[1],
    )  # fmt: skip
    frame = middle(width, height, out_width=224, out_height=224, share=0.875)
    assert frame.box == pytest.approx(wanted)
    assert frame.region == (0, 0, width, height)
