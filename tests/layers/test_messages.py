"""What a user is told who builds a network that does not fit."""

import re
from collections.abc import Callable

import pytest

from layers.add import Add
from layers.avg_pool import AvgPool
from layers.concat import Concat
from layers.conv2d import Conv2d
from layers.dropout import Dropout
from layers.flatten import Flatten
from layers.fork import Fork
from layers.layer import Layer, Shape
from layers.linear import Linear
from layers.max_pool import MaxPool


@pytest.mark.parametrize(
    ("layer", "shapes", "message"),
    [
        (MaxPool(3, 2), [(16, 2, 2)], "window 3x3 with stride 2 does not fit an image of 2x2"),
        (
            MaxPool(5, 2, 1),
            [(3, 9, 2)],
            "window 5x5 with stride 2 does not fit an image of 9x2 with padding 1",
        ),
        (AvgPool((3, 1), 2), [(16, 2, 2)], "window 3x1 with stride 2 does not fit an image of 2x2"),
        (MaxPool(3, 2), [(16,)], "pooling wants images (C, H, W), got samples of shape (16,)"),
        (AvgPool(), [(16,)], "pooling wants images (C, H, W), got samples of shape (16,)"),
        (Flatten(), [(16,)], "flatten wants images (C, H, W), got samples of shape (16,)"),
        (Add(), [(16,)], "add wants two or more inputs of one shape, got (16,)"),
        (Add(), [(16,), (17,)], "add wants two or more inputs of one shape, got (16,), (17,)"),
        (
            Concat(),
            [(3, 5, 5), (4, 5, 6)],
            "concat wants two or more inputs that differ in channels only, got (3, 5, 5), (4, 5, 6)",
        ),
        (Conv2d(8, 5), [(3, 4, 9)], "a 5x5 kernel does not fit an image of 4x9"),
        (Conv2d(8, 5), [(3,)], "wants images (C, H, W), got samples of shape (3,)"),
        (Linear(10), [(3, 4, 4)], "wants vectors, got samples of shape (3, 4, 4)"),
    ],
    ids=str,
)
def test_inputs_that_do_not_fit_are_refused(layer: Layer, shapes: list[Shape], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        layer.output_shape(*shapes)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MaxPool(0, 1), "window and stride must be at least 1"),
        (lambda: MaxPool(2, 0), "window and stride must be at least 1"),
        (lambda: MaxPool(2, 2, 2), "padding less than the window"),
        (lambda: MaxPool(17, 1), "a window may have 256 elements, got 289"),
        (lambda: AvgPool(2, 0), "window and stride must be at least 1"),
        (lambda: Dropout(1.0), "probability must be at least 0 and less than 1"),
        (lambda: Fork(1), "outputs must be at least 2"),
        (lambda: Conv2d(0, 3), "out_channels"),
        (lambda: Linear(0), "out_features must be at least 1"),
    ],
)
def test_layers_that_make_no_sense_are_refused(make: Callable[[], Layer], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make()
