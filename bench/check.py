"""Is a result right? Compares elements of it, drawn at random, with float64 sums written out in numpy.

Whole references of VGG's layers would take minutes. For layers that add up, some elements of every result are
computed from the inputs that they depend on, the corners among them; for the others one sample as a whole.
A layer of a new kind needs a row in `_CHECKS`.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from bench.setup import KEY, SEED, STEP, Setup
from layers import layout
from layers.add import Add
from layers.avg_pool import AvgPool
from layers.concat import Concat
from layers.conv2d import Conv2d
from layers.dropout import Dropout
from layers.flatten import Flatten
from layers.layer import Array, Layer, Shape
from layers.linear import Linear
from layers.max_pool import MaxPool
from layers.pooling import window_size
from layers.reference import add, avg_pool, concat, dropout, flatten, max_pool, relu, sigmoid
from layers.relu import ReLU
from layers.sigmoid import Sigmoid

Values = NDArray[np.float64]
Pairs = tuple[Values, Values]
"""What was computed, and what is right."""

TOLERANCE = 2e-5
"""Relative L2 error over the elements compared: that of Winograd with thousands of channels. Direct: 1e-6."""

POINTS = 64
GRADIENT_POINTS = 16  # each is a sum over the whole minibatch


def error(setup: Setup, direction: str) -> float:
    """Return the relative L2 error of what a pass has written.

    Raises
    ------
    KeyError
        If nobody has said how to check such a layer.
    """
    compare = _CHECKS[type(setup.problem.layer)]
    computed, right = compare(setup, direction)
    if not np.isfinite(computed).all():
        return float("inf")
    scale = float(np.linalg.norm(right))
    difference = float(np.linalg.norm(computed - right))
    return difference / scale if scale else difference


def _points(count: int, *extents: int) -> list[tuple[int, ...]]:
    """Return indices: the first, the last, and others at random; the same ones in each run."""
    generator = np.random.default_rng(5)
    drawn = [tuple(int(generator.integers(extent)) for extent in extents) for _ in range(count - 2)]
    return [tuple(0 for _ in extents), tuple(extent - 1 for extent in extents), *drawn]


def _pixel(image: Array, n: int, c: int, i: int, j: int) -> float:
    lanes = image.shape[-1]
    return float(image[n, c // lanes, i, j, c % lanes])


def _window(image: Array, n: int, channels: int, rows: slice, columns: slice) -> Values:
    """Return plain [C, rows, columns] of one sample."""
    part = image[n, :, rows, columns].transpose(0, 3, 1, 2)
    return part.reshape(-1, *part.shape[2:])[:channels].astype(np.float64)


def _inside(start: int, taps: int, size: int) -> tuple[slice, slice]:
    """Return the pixels of a window that lie inside the image, and the taps that meet them."""
    first, last = max(0, -start), max(0, -start, min(taps, size - start))
    return slice(start + first, start + last), slice(first, last)


def _plane(image: Array, c: int) -> Values:
    """Return plain [N, H, W] of one channel."""
    lanes = image.shape[-1]
    return image[:, c // lanes, :, :, c % lanes].astype(np.float64)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value


def _conv2d(setup: Setup, direction: str) -> Pairs:
    layer = setup.problem.layer
    assert isinstance(layer, Conv2d)
    compare = {
        "forward": _conv_forward,
        "backward_data": _conv_backward_data,
        "backward_weights": _conv_backward_weights,
    }
    return compare[direction](setup, layer)


def _conv_forward(setup: Setup, layer: Conv2d) -> Pairs:
    at, weight, bias = setup.at, setup.weights["weight"], setup.weights["bias"]
    (channels, height, width), (outputs, rows, columns) = at.shapes[0], at.shape
    (r, s), (pad_h, pad_w) = weight.shape[2:], _pair(layer.padding)
    computed, right = [], []
    for n, k, i, j in _points(POINTS, len(at.x[0]), outputs, rows, columns):
        (u, tap_rows), (v, tap_columns) = (
            _inside(i * layer.stride - pad_h, r, height),
            _inside(j * layer.stride - pad_w, s, width),
        )
        seen = _window(at.x[0], n, channels, u, v)
        computed.append(_pixel(at.y[0], n, k, i, j))
        right.append(bias[k] + np.vdot(seen, weight[k][:, tap_rows, tap_columns].astype(np.float64)))
    return np.array(computed), np.array(right)


def _conv_backward_data(setup: Setup, layer: Conv2d) -> Pairs:
    at, weight = setup.at, setup.weights["weight"]
    (channels, height, width), (outputs, rows, columns) = at.shapes[0], at.shape
    (r, s), (pad_h, pad_w) = weight.shape[2:], _pair(layer.padding)
    computed, right = [], []
    for n, c, h, w in _points(POINTS, len(at.x[0]), channels, height, width):
        total = 0.0
        for u in range(r):
            for v in range(s):
                i, down = divmod(h + pad_h - u, layer.stride)
                j, across = divmod(w + pad_w - v, layer.stride)
                if down == across == 0 and 0 <= i < rows and 0 <= j < columns:
                    seen = _window(at.dy[0], n, outputs, slice(i, i + 1), slice(j, j + 1))[:, 0, 0]
                    total += float(seen @ weight[:, c, u, v].astype(np.float64))
        computed.append(_pixel(at.dx[0], n, c, h, w))
        right.append(total)
    return np.array(computed), np.array(right)


def _conv_backward_weights(setup: Setup, layer: Conv2d) -> Pairs:
    at = setup.at
    gradient, bias_gradient = _gradients(setup)
    (pad_h, pad_w), stride = _pair(layer.padding), layer.stride
    _, rows, columns = at.shape
    computed, right = [], []
    for k, c, u, v in _points(GRADIENT_POINTS, *gradient.shape):
        x, dy = _plane(at.x[0], c), _plane(at.dy[0], k)
        padded = np.pad(x, ((0, 0), (pad_h, pad_h), (pad_w, pad_w)))
        seen = padded[:, u : u + rows * stride : stride, v : v + columns * stride : stride]
        computed += [gradient[k, c, u, v], bias_gradient[k]]
        right += [np.vdot(seen[:, :rows, :columns], dy), dy.sum()]
    return np.array(computed, np.float64), np.array(right)


def _gradients(setup: Setup) -> tuple[Array, Array]:
    described = setup.problem.layer.parameters(*setup.problem.inputs)
    weight, bias = (described[name].unpack(setup.at.gradients[name]) for name in ("weight", "bias"))
    return weight, bias


def _linear(setup: Setup, direction: str) -> Pairs:
    at, weight, bias = setup.at, setup.weights["weight"], setup.weights["bias"]
    outputs, features = weight.shape
    computed, right = [], []
    if direction == "forward":
        for n, k in _points(POINTS, len(at.x[0]), outputs):
            x = at.x[0][n, :features].astype(np.float64)
            computed.append(at.y[0][n, k])
            right.append(bias[k] + x @ weight[k].astype(np.float64))
    elif direction == "backward_data":
        for n, c in _points(POINTS, len(at.x[0]), features):
            dy = at.dy[0][n, :outputs].astype(np.float64)
            computed.append(at.dx[0][n, c])
            right.append(dy @ weight[:, c].astype(np.float64))
    else:
        gradient, bias_gradient = _gradients(setup)
        for k, c in _points(POINTS, outputs, features):
            dy = at.dy[0][:, k].astype(np.float64)
            computed += [gradient[k, c], bias_gradient[k]]
            right += [dy @ at.x[0][:, c].astype(np.float64), dy.sum()]
    return np.array(computed, np.float64), np.array(right, np.float64)


def _one_sample(setup: Setup, direction: str) -> Pairs:
    """Compare the last sample as a whole."""
    at, layer = setup.at, setup.problem.layer
    forward, backward_data = _REFERENCES[type(layer)]
    n = len(at.x[0]) - 1
    inputs = [_plain(x, shape, n) for x, shape in zip(at.x, at.shapes, strict=True)]
    if direction == "forward":
        return _plain(at.y[0], at.shape, n).ravel(), forward(layer, inputs, n).ravel()
    expected = backward_data(layer, inputs, _plain(at.dy[0], at.shape, n), n)
    computed = [_plain(dx, shape, n) for dx, shape in zip(at.dx, at.shapes, strict=True)]
    return np.concatenate([a.ravel() for a in computed]), np.concatenate([a.ravel() for a in expected])


def _plain(value: Array, shape: Shape, n: int) -> Values:
    return layout.from_blocked(value[n : n + 1], shape).astype(np.float64)


def _window_of(layer: MaxPool | AvgPool, x: Values) -> tuple[int, int]:
    return window_size(layer.window, x.shape[1:])


def _mask(layer: Dropout, x: Values, n: int) -> NDArray[np.bool_]:
    return dropout.mask(x.size, layer.probability, SEED, STEP, n, KEY).reshape(x.shape)


_REFERENCES: dict[type[Layer], tuple[Callable[..., Values], Callable[..., list[Values]]]] = {
    ReLU: (
        lambda _, inputs, __: relu.forward(inputs[0]),
        lambda _, inputs, dy, __: [relu.backward_data(inputs[0], dy)],
    ),
    Sigmoid: (
        lambda _, inputs, __: sigmoid.forward(inputs[0]),
        lambda _, inputs, dy, __: [sigmoid.backward_data(inputs[0], dy)],
    ),
    Dropout: (
        lambda layer, inputs, n: dropout.forward(inputs[0], _mask(layer, inputs[0], n), layer.probability),
        lambda layer, _, dy, n: [dropout.backward_data(dy, _mask(layer, dy, n), layer.probability)],
    ),
    MaxPool: (
        lambda layer, inputs, _: max_pool.forward(
            inputs[0], _window_of(layer, inputs[0]), layer.stride, layer.padding
        ),
        lambda layer, inputs, dy, _: [
            max_pool.backward_data(inputs[0], dy, _window_of(layer, inputs[0]), layer.stride, layer.padding)
        ],
    ),
    AvgPool: (
        lambda layer, inputs, _: avg_pool.forward(inputs[0], _window_of(layer, inputs[0]), layer.stride),
        lambda layer, inputs, dy, _: [
            avg_pool.backward_data(inputs[0], dy, _window_of(layer, inputs[0]), layer.stride)
        ],
    ),
    Flatten: (
        lambda _, inputs, __: flatten.forward(inputs[0]),
        lambda _, inputs, dy, __: [flatten.backward_data(inputs[0], dy)],
    ),
    Add: (
        lambda _, inputs, __: add.forward(inputs),
        lambda _, inputs, dy, __: add.backward_data(inputs, dy),
    ),
    Concat: (
        lambda _, inputs, __: concat.forward(inputs),
        lambda _, inputs, dy, __: concat.backward_data(inputs, dy),
    ),
}
"""``forward(layer, inputs, sample)`` and ``backward_data(layer, inputs, dy, sample)`` in float64."""

_CHECKS: dict[type[Layer], Callable[[Setup, str], Pairs]] = {
    Conv2d: _conv2d,
    Linear: _linear,
    **dict.fromkeys(_REFERENCES, _one_sample),
}
