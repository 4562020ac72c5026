"""Average pooling to a size: large maps, and what does not fit."""

from dataclasses import replace

import numpy as np
import pytest

from layers.adaptive_avg_pool import AdaptiveAvgPool
from layers.global_avg_pool import GlobalAvgPool
from layers.layer import Layer
from layers.scale import Scale
from tests.layers import harness


@pytest.mark.parametrize("layer", [GlobalAvgPool(), AdaptiveAvgPool()], ids=str)
def test_the_mean_of_a_large_map_is_accurate(layer: Layer) -> None:
    rows, columns, value = 600, 500, np.float32(0.1)
    given = harness.problem(layer, ((1, rows, columns),), 1)
    x = np.full((1, 1, rows, columns), value, np.float64)
    (y,) = harness.run(layer, replace(given, inputs=(x,))).y
    # Each of a row's and a column's additions rounds once; one chain of all pixels would be 1e-3 off.
    bound = (rows + columns) * 2.0**-24 * float(value)
    assert abs(float(y.plain().item()) - float(value)) <= bound


def test_sizes_and_inputs_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match=r"size must be at least 1"):
        AdaptiveAvgPool((2, 0))
    for layer in (AdaptiveAvgPool(), GlobalAvgPool()):
        with pytest.raises(ValueError, match=r"^pooling wants images .*, got samples of shape \(5,\)"):
            layer.output_shape((5,))
    for shapes in (((4, 2, 2), (5,)), ((4, 2, 2), (4, 2, 2)), ((4,), (4,)), ((4, 2, 2),)):
        with pytest.raises(ValueError, match=r"^scale wants an image .* got"):
            Scale().output_shape(*shapes)
