"""Is a result right? Compares what a pass has written with the layer's float64 reference.

The whole reference of a product, such as a convolution of VGG, would take minutes: some elements of every
result are computed from the inputs that they depend on, the corners among them. The result of any other layer
is compared as a whole on the last sample, and the gradients of its parameters on all samples.
"""

import numpy as np
from numpy.typing import NDArray

from bench.setup import Setup
from layers import layout, reference
from layers.conv2d import Conv2d
from layers.layer import Array, Shape
from layers.reference import reference_of
from layers.work import BACKWARD_DATA, BACKWARD_WEIGHTS, FORWARD, Extents

Values = NDArray[np.float64]
Pairs = tuple[Values, Values]
"""What was computed, and what is right."""

TOLERANCE = 2e-5
"""Relative L2 error over the elements compared: Winograd's with thousands of channels. Direct: 1e-6."""

_OF_BF16 = 2.0**-8
"""Of values that are rounded to bf16 themselves."""

POINTS = 64
GRADIENT_POINTS = 16  # of convolutions: each is a sum over all pixels of the minibatch


def tolerance(setup: Setup, direction: str) -> float:
    """Return the error that is allowed."""
    rounds = setup.problem.is_bf16 and direction == FORWARD and isinstance(setup.problem.layer, Conv2d)
    return _OF_BF16 if rounds else TOLERANCE


def error(setup: Setup, direction: str) -> float:
    """Return the relative L2 error of what a pass has written.

    Raises
    ------
    ValueError
        The layer has no reference.
    """
    computed, right = _compared(setup, direction)
    if not np.isfinite(computed).all():
        return float("inf")
    scale = float(np.linalg.norm(right))
    difference = float(np.linalg.norm(computed - right))
    return difference / scale if scale else difference


def _compared(setup: Setup, direction: str) -> Pairs:
    layer = setup.problem.layer
    extents = layer.extents(*setup.problem.inputs)
    if extents is None or extents.dilation > 1 or not reference_of(layer).is_product:
        return _gradients(setup) if direction == BACKWARD_WEIGHTS else _last_samples(setup, direction)
    sampled = {
        FORWARD: _sampled_outputs,
        BACKWARD_DATA: _sampled_input_gradients,
        BACKWARD_WEIGHTS: _sampled_weight_gradients,
    }
    return sampled[direction](setup, extents)


def _last_samples(setup: Setup, direction: str) -> Pairs:
    """Compare the last sample as a whole, or the last leaf where samples of a leaf depend on each other."""
    at, layer = setup.at, setup.problem.layer
    count = len(at.samples) // at.leaves if layer.leaf_values(*at.shapes) else 1
    last = slice(len(at.samples) - count, len(at.samples))
    problem = _plain_problem(setup, last)
    if direction == FORWARD:
        written, shapes = at.y, (at.shape,) * layer.outputs
        right = reference_of(layer).forward(layer, problem)
    else:
        written, shapes = at.dx, at.shapes
        right = reference_of(layer).backward_data(layer, problem)
    computed = [_plain(array[last], shape) for array, shape in zip(written, shapes, strict=True)]
    return _flat(computed), _flat(right)


def _gradients(setup: Setup) -> Pairs:
    """Compare all gradients of parameters, those of the reference added leaf by leaf."""
    at, layer = setup.at, setup.problem.layer
    per_leaf, right = len(at.samples) // at.leaves, dict[str, Values]()
    for leaf in range(at.leaves):
        problem = _plain_problem(setup, slice(leaf * per_leaf, (leaf + 1) * per_leaf))
        for name, gradient in reference_of(layer).backward_weights(layer, problem).items():
            right[name] = right.get(name, 0.0) + gradient
    computed = setup.standard_gradients()
    return _flat([computed[name] for name in right]), _flat(list(right.values()))


def _plain_problem(setup: Setup, rows: slice) -> reference.Problem:
    """Return some samples of a setup as the reference wants them."""
    at, run = setup.at, setup.context
    return reference.Problem(
        tuple(_plain(x[rows], shape) for x, shape in zip(at.x, at.shapes, strict=True)),
        {name: weight.astype(np.float64) for name, weight in setup.weights.items()},
        tuple(_plain(dy[rows], at.shape) for dy in at.dy),
        at.samples[rows],
        run.seed,
        run.step,
        at.key,
    )


def _plain(value: Array, shape: Shape) -> Values:
    return layout.from_blocked(value, shape).astype(np.float64)


def _flat(arrays: list[NDArray[np.floating]]) -> Values:
    return np.concatenate([array.ravel().astype(np.float64) for array in arrays])


def _sampled_outputs(setup: Setup, extents: Extents) -> Pairs:
    x, y = _image(setup.at.x[0]), _image(setup.at.y[0])
    weight = _taps(setup.weights["weight"])
    bias = setup.weights.get("bias", np.zeros(extents.ofm))
    pad_h, pad_w = extents.padding
    computed, right = [], []
    for n, k, i, j in _points(POINTS, len(y), extents.ofm, extents.oh, extents.ow):
        rows, tap_rows = _inside(i * extents.stride - pad_h, extents.kh, extents.ih)
        columns, tap_columns = _inside(j * extents.stride - pad_w, extents.kw, extents.iw)
        seen = _window(x, n, extents.ifm, rows, columns)
        computed.append(_pixel(y, n, k, i, j))
        right.append(bias[k] + np.vdot(seen, weight[k][:, tap_rows, tap_columns].astype(np.float64)))
    return np.array(computed), np.array(right)


def _sampled_input_gradients(setup: Setup, extents: Extents) -> Pairs:
    dx, dy, weight = _image(setup.at.dx[0]), _image(setup.at.dy[0]), _taps(setup.weights["weight"])
    pad_h, pad_w = extents.padding
    computed, right = [], []
    for n, c, h, w in _points(POINTS, len(dx), extents.ifm, extents.ih, extents.iw):
        total = 0.0
        for u in range(extents.kh):
            for v in range(extents.kw):
                i, down = divmod(h + pad_h - u, extents.stride)
                j, across = divmod(w + pad_w - v, extents.stride)
                if down == across == 0 and 0 <= i < extents.oh and 0 <= j < extents.ow:
                    seen = _window(dy, n, extents.ofm, slice(i, i + 1), slice(j, j + 1))[:, 0, 0]
                    total += float(seen @ weight[:, c, u, v].astype(np.float64))
        computed.append(_pixel(dx, n, c, h, w))
        right.append(total)
    return np.array(computed), np.array(right)


def _sampled_weight_gradients(setup: Setup, extents: Extents) -> Pairs:
    x, dy, stride = _image(setup.at.x[0]), _image(setup.at.dy[0]), extents.stride
    gradients = setup.standard_gradients()
    gradient, bias_gradient = _taps(gradients["weight"]), gradients.get("bias")
    pad_h, pad_w = extents.padding
    computed, right = [], []
    for k, c, u, v in _points(POINTS if extents.is_fully_connected else GRADIENT_POINTS, *gradient.shape):
        outputs = _plane(dy, k)
        padded = np.pad(_plane(x, c), ((0, 0), (pad_h, pad_h), (pad_w, pad_w)))
        seen = padded[:, u : u + extents.oh * stride : stride, v : v + extents.ow * stride : stride]
        computed.append(gradient[k, c, u, v])
        right.append(np.vdot(seen[:, : extents.oh, : extents.ow], outputs))
        if bias_gradient is not None:
            computed.append(bias_gradient[k])
            right.append(outputs.sum())
    return np.array(computed, np.float64), np.array(right)


def _image(value: Array) -> Array:
    """View a blocked value as images; features are channels of one pixel."""
    return value if value.ndim == 5 else value[:, None, None, None, :]


def _taps(weight: Array) -> Array:
    """View weights as OIHW; those of a fully connected layer have one tap."""
    return weight if weight.ndim == 4 else weight[:, :, None, None]


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
