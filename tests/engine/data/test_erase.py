"""Boxes that are taken out of images."""

import numpy as np

from engine.data.erase import cut_out, erase


def holes(shape, change):
    """Yield height, width and upper left corner of the zeros of many images, None where there are none."""
    for sample in range(600):
        x = np.ones(shape, np.float32)
        change(x, sample)
        assert ((x == 0) == (x[0] == 0)).all()  # in all channels
        rows, columns = np.nonzero(x[0] == 0)
        if not len(rows):
            yield None
            continue
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert len(rows) == height * width  # a box
        yield height, width, rows.min(), columns.min()


def test_a_share_of_images_loses_a_box_of_an_area_and_a_shape_that_are_allowed():
    found = list(holes((3, 60, 80), lambda x, s: erase(x, 0.25, seed=1, epoch=0, sample=s)))
    boxes = [box for box in found if box]
    assert 0.2 < len(boxes) / len(found) < 0.3
    areas = [height * width / (60 * 80) for height, width, *_ in boxes]
    assert 0.018 < min(areas) < 0.05
    assert 0.25 < max(areas) < 0.34
    shapes = [height / width for height, width, *_ in boxes]
    assert 0.28 < min(shapes) < 0.5
    assert 2 < max(shapes) < 3.5
    assert {(top == 0, left == 0) for _, _, top, left in boxes} >= {(False, False)}


def test_each_image_loses_a_square_around_any_of_its_pixels():
    boxes = list(holes((1, 20, 30), lambda x, s: cut_out(x, 8, seed=1, epoch=0, sample=s)))
    assert None not in boxes
    assert {height for height, *_ in boxes} == {4, 5, 6, 7, 8}
    assert {top for _, _, top, _ in boxes} == set(range(16))
    assert max(left for *_, left in boxes) == 25


def test_it_depends_on_seed_epoch_and_sample():
    def erased(**keys):
        x = np.ones((1, 40, 40), np.float32)
        erase(x, 1.0, **keys)
        cut_out(x, 6, **keys)
        return x.tobytes()

    first = erased(seed=1, epoch=2, sample=3)
    assert erased(seed=1, epoch=2, sample=3) == first
    for changed in ({"seed": 2}, {"epoch": 3}, {"sample": 4}):
        assert erased(**{"seed": 1, "epoch": 2, "sample": 3, **changed}) != first
