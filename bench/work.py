"""How much arithmetic a pass does, beside how much the direct algorithm would do."""

from bench.shapes import Problem
from layers.conv2d import Conv2d
from layers.kernels.conv_algorithm import (
    POSITIONS,
    backward_weights_is_winograd,
    forward_is_winograd,
    winograd_outputs,
)


def executed_flops(problem: Problem, direction: str, leaves: int) -> int:
    """Return the FLOP of the multiply-adds that the kernels execute in one pass.

    Winograd F(M x M, R x R) executes (M + R - 1)^2 multiply-adds a tile of M x M outputs, incomplete tiles as
    whole ones; its transforms, a few additions a value, are not counted.
    """
    if not is_winograd(problem, direction, leaves):
        return problem.flops()
    layer, (channels, *size) = problem.layer, problem.inputs[0]
    assert isinstance(layer, Conv2d)
    outputs = winograd_outputs(_kernel(layer), layer.stride)
    rows, columns = size if direction == "backward_data" else problem.output[1:]
    tiles = problem.minibatch * -(-rows // outputs) * -(-columns // outputs)
    return 2 * tiles * POSITIONS * channels * layer.out_channels


def is_winograd(problem: Problem, direction: str, leaves: int) -> bool:
    """Return whether a pass is computed by Winograd's algorithm."""
    layer = problem.layer
    if not isinstance(layer, Conv2d) or layer.algorithm != "auto":
        return False
    channels, height, width = problem.inputs[0]
    _, rows, columns = problem.output
    kernel, both = _kernel(layer), (channels, layer.out_channels)
    if direction == "forward":
        return forward_is_winograd(*both, kernel, layer.stride, rows, columns)
    if direction == "backward_data":
        return forward_is_winograd(*both[::-1], kernel, layer.stride, height, width)
    samples = problem.minibatch // leaves
    return backward_weights_is_winograd(*both, kernel, layer.stride, rows, columns, samples)


def _kernel(layer: Conv2d) -> tuple[int, int]:
    return (layer.kernel, layer.kernel) if isinstance(layer.kernel, int) else layer.kernel
