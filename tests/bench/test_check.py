"""The check of a result finds right ones right, and wrong ones wrong."""

import numpy as np
import pytest

from bench import check
from bench.setup import prepare
from bench.shapes import Problem
from layers.add import Add
from layers.avg_pool import AvgPool
from layers.concat import Concat
from layers.conv2d import Conv2d
from layers.dropout import Dropout
from layers.flatten import Flatten
from layers.fused_conv2d import Conv2dReLU, Conv2dReLUPool
from layers.layer import Layer, Shape
from layers.linear import Linear
from layers.max_pool import MaxPool
from layers.relu import ReLU
from layers.sigmoid import Sigmoid
from tests.layers.harness import workers

LAYERS: list[tuple[Layer, tuple[Shape, ...]]] = [
    (Conv2d(31, 3, padding=1), ((17, 9, 7),)),
    (Conv2d(16, (5, 3), stride=2, padding=(3, 0)), ((3, 12, 13),)),
    (Linear(33), ((50,),)),
    (ReLU(), ((17, 5, 7),)),
    (Sigmoid(), ((40,),)),
    (Dropout(0.5), ((17, 5, 7),)),
    (MaxPool(2, 2), ((17, 6, 8),)),
    (AvgPool(2, 2), ((17, 6, 8),)),
    (Flatten(), ((17, 3, 2),)),
    (Add(), ((17, 3, 2),) * 2),
    (Concat(), ((17, 3, 2), (5, 3, 2))),
    (Conv2dReLU(Conv2d(17, 3, padding=1)), ((3, 9, 7),)),
    (Conv2dReLUPool(Conv2d(17, 3, padding=1)), ((3, 9, 7),)),
    (Conv2dReLUPool(Conv2d(64, 3, padding=1)), ((64, 10, 13),)),  # Winograd
]


@pytest.mark.parametrize(("layer", "shapes"), LAYERS, ids=str)
def test_a_right_result_passes_and_a_wrong_one_does_not(layer: Layer, shapes: tuple[Shape, ...]) -> None:
    setup = prepare(Problem("test:layer", layer, shapes, 4), workers(2), leaves=2)
    results = {
        "forward": setup.at.y,
        "backward_weights": setup.at.gradients.values(),
        "backward_data": setup.at.dx,
    }
    for direction in setup.problem.passes():
        setup.run(direction)
        assert check.error(setup, direction) < check.TOLERANCE
        for result in results[direction]:
            np.multiply(result, np.float32(1.001), out=result)
        assert check.error(setup, direction) > check.TOLERANCE
        setup.run(direction)


def test_what_was_not_written_is_not_right() -> None:
    setup = prepare(Problem("test:layer", Linear(33), ((50,),), 4), workers(1), leaves=1)
    setup.at.y[0][...] = np.nan
    assert check.error(setup, "forward") == float("inf")
