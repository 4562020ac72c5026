"""Products of bf16 on the register tile: in every bit what a matrix unit computes."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from layers.conv2d import Conv2d
from layers.fused_conv2d import Conv2dReLU, Conv2dReLUPool
from layers.linear import Linear
from layers.reference import Problem
from tests.layers import harness
from tests.layers.bf16_model import product, rounded, tree

Array = NDArray[np.float32]

CONVOLUTIONS = [
    (Conv2d(17, 3, padding=1), (40, 5, 6)),  # an odd block of channels
    (Conv2d(64, 3), (64, 4, 10)),
    (Conv2d(33, (3, 2), stride=2, padding=(1, 0)), (70, 7, 6)),
    (Conv2d(48, 1), (96, 3, 5)),
    (Conv2d(40, 1, stride=2), (33, 5, 6)),
    (Conv2d(20, 3, padding=2, dilation=2), (32, 6, 5)),
    (Conv2d(20, 3, stride=3, padding=1, dilation=2, bias=False), (18, 8, 7)),
    (Conv2d(16, 5, stride=2, padding=2), (3, 9, 8)),  # few channels
    (Conv2d(32, 3, padding=1, reads_input=True), (19, 4, 5)),
]
FULLY_CONNECTED = [
    (Linear(40), 70, 6, 2),  # an odd block of outputs, leaves of an odd number of samples
    (Linear(64), 32, 8, 8),  # of one sample
    (Linear(256, leaf=32), 48, 128, 2),  # several feature leaves; more than a block of samples
    (Linear(96, leaf=64, bias=False), 33, 70, 2),
]
SAMPLES, LEAVES = 4, 2


def _given(layer: Conv2d | Linear, shape: tuple[int, ...], samples: int, tiny: bool) -> Problem:
    """Draw values of bf16; tiny ones have products near the smallest normal number, and below."""
    given = harness.problem(layer, (shape,), samples)
    scale = 1e-19 if tiny else 1.0

    def values(array: NDArray[np.float64]) -> NDArray[np.float64]:
        return rounded((array * scale).astype(np.float32)).astype(np.float64)

    weights = given.parameters if tiny is False else {k: v * scale for k, v in given.parameters.items()}
    return replace(
        given, inputs=tuple(map(values, given.inputs)), dys=tuple(map(values, given.dys)), parameters=weights
    )


def _single(array: NDArray[np.float64]) -> Array:
    return array.astype(np.float32)


def _taps(conv: Conv2d, x: Array) -> Array:
    """Return [N, OH, OW, R, S, C]: the pixels that taps meet, zeros outside the image."""
    above, left, below, right = conv.pads
    x = np.pad(x, ((0, 0), (0, 0), (above, below), (left, right)))
    r, s = conv.kernel_size
    reach = ((r - 1) * conv.dilation + 1, (s - 1) * conv.dilation + 1)
    seen = np.lib.stride_tricks.sliding_window_view(x, reach, axis=(2, 3))
    seen = seen[:, :, :: conv.stride, :: conv.stride, :: conv.dilation, :: conv.dilation]
    return np.ascontiguousarray(seen.transpose(0, 2, 3, 4, 5, 1))


def _in_blocks(terms: Array) -> Array:
    """Return [M, R, S, C] as [M, all terms]: blocks of 32 channels outside of taps."""
    filled = np.pad(terms, ((0, 0), (0, 0), (0, 0), (0, -terms.shape[3] % 32)))
    m, r, s, c = filled.shape
    return filled.reshape(m, r, s, c // 32, 32).transpose(0, 3, 1, 2, 4).reshape(m, -1)


def _is_lowered(conv: Conv2d, channels: int) -> bool:
    return channels < 16 or conv.reads_input


def _forward(conv: Conv2d, x: Array, weight: Array, bias: Array) -> Array:
    taps = _taps(conv, x)
    n, rows, columns = taps.shape[:3]
    taps, kernels = taps.reshape(-1, *taps.shape[3:]), weight.transpose(0, 2, 3, 1)
    if _is_lowered(conv, x.shape[1]):
        y = product(bias, taps.reshape(len(taps), -1), kernels.reshape(len(kernels), -1).T)
    else:
        y = product(bias, _in_blocks(taps), _in_blocks(kernels).T)
    return y.reshape(n, rows, columns, -1).transpose(0, 3, 1, 2) + np.float32(0)


def _backward_weights(conv: Conv2d, x: Array, dy: Array, leaves: int) -> Array:
    taps = _taps(conv, x)  # [N, OH, OW, R, S, C]
    shifts = 0 if _is_lowered(conv, x.shape[1]) else (conv.kernel_size[1] - 1) * conv.dilation // conv.stride
    beside = ((0, 0), (0, 0), (0, shifts))  # what taps meet there is nothing, as dy is zero
    lines = np.pad(taps, (*beside, (0, 0), (0, 0), (0, 0)))
    lines = lines.reshape(len(x), -1, int(np.prod(taps.shape[3:])))
    dy_lines = np.pad(dy, ((0, 0), *beside)).reshape(*dy.shape[:2], -1).transpose(0, 2, 1)
    sums, each = [], len(x) // leaves
    for first in range(0, len(x), each):
        total = np.zeros((lines.shape[2], dy.shape[1]), np.float32)
        for n in range(first, first + each):
            total = product(total, lines[n].T, dy_lines[n])
        sums.append(total + np.float32(0))
    gradient = tree(sums).T.reshape(dy.shape[1], *taps.shape[3:])
    return gradient.transpose(0, 3, 1, 2)


def _backward_data(conv: Conv2d, dy: Array, weight: Array, shape: tuple[int, ...]) -> Array:
    channels, height, width = shape
    above, left, _, _ = conv.pads
    r, s = conv.kernel_size
    rows, columns = dy.shape[2:]
    kernels = np.zeros((height, width, channels, rows, columns, dy.shape[1]), np.float32)
    for h, w, u, v in np.ndindex(height, width, r, s):
        i, i_rest = divmod(h + above - u * conv.dilation, conv.stride)
        j, j_rest = divmod(w + left - v * conv.dilation, conv.stride)
        if i_rest == j_rest == 0 and 0 <= i < rows and 0 <= j < columns:
            kernels[h, w, :, i, j] = weight[:, :, u, v].T
    terms = _in_blocks(np.ascontiguousarray(dy.transpose(0, 2, 3, 1)))
    factors = _in_blocks(kernels.reshape(-1, *kernels.shape[3:])).T
    dx = product(np.float32(0), terms, factors).reshape(len(dy), height, width, channels)
    dx = dx.transpose(0, 3, 1, 2)
    return dx + np.float32(0)


@pytest.mark.parametrize("tiny", [False, True])
@pytest.mark.parametrize(("conv", "shape"), CONVOLUTIONS, ids=str)
def test_a_convolution_has_the_bits_of_the_unit(conv: Conv2d, shape: tuple[int, ...], tiny: bool) -> None:
    given = _given(conv, shape, SAMPLES, tiny)
    found = harness.run(replace(conv, precision="bf16"), given, leaves=LEAVES, threads=2)
    x, dy = _single(given.inputs[0]), _single(given.dys[0])
    weight = rounded(_single(given.parameters["weight"]))
    bias = _single(given.parameters["bias"]) if conv.bias else np.zeros(conv.out_channels, np.float32)
    _same(found.y[0].plain(), rounded(_forward(conv, x, weight, bias)))
    _same(found.gradients["weight"], _backward_weights(conv, x, dy, LEAVES))
    _same(found.dx[0].plain(), _backward_data(conv, dy, weight, shape))


def _same(found: Array, wanted: Array) -> None:
    np.testing.assert_array_equal(found.view(np.uint32), np.ascontiguousarray(wanted).view(np.uint32))


@pytest.mark.parametrize("tiny", [False, True])
@pytest.mark.parametrize(
    ("linear", "features", "samples", "leaves"),
    FULLY_CONNECTED,
    ids=str,
)
def test_a_fully_connected_layer_has_the_bits_of_the_unit(
    linear: Linear, features: int, samples: int, leaves: int, tiny: bool
) -> None:
    given = _given(linear, (features,), samples, tiny)
    found = harness.run(replace(linear, precision="bf16"), given, leaves=leaves, threads=2)
    x, dy = _single(given.inputs[0]), _single(given.dys[0])
    weight = rounded(_single(given.parameters["weight"]))
    bias = _single(given.parameters["bias"]) if linear.bias else np.zeros(linear.out_features, np.float32)
    zero = np.float32(0)
    _same(found.y[0].plain(), product(bias, x, weight.T) + zero)
    each = samples // leaves
    sums = [
        product(zero, dy[first : first + each].T, x[first : first + each]) + zero
        for first in range(0, samples, each)
    ]
    _same(found.gradients["weight"], tree(sums))
    runs = range(0, linear.out_features, linear.feature_leaf)
    leaf = linear.feature_leaf
    dxs = [product(zero, dy[:, k : k + leaf], weight[k : k + leaf]) + zero for k in runs]
    _same(found.dx[0].plain(), tree(dxs))


@pytest.mark.parametrize("wrap", [Conv2dReLU, Conv2dReLUPool])
@pytest.mark.parametrize("shape", [(40, 6, 14), (3, 8, 6)])
def test_what_follows_a_convolution_sees_its_bits(wrap: type, shape: tuple[int, ...]) -> None:
    conv = Conv2d(32, 3, padding=1, precision="bf16")
    plain = harness.run(conv, _given(conv, shape, 2, tiny=False)).y[0].plain()
    fused = wrap(conv)
    found = harness.run(
        fused, replace(_given(conv, shape, 2, tiny=False), dys=harness.problem(fused, (shape,), 2).dys)
    )
    wanted = np.maximum(plain, 0)
    if wrap is Conv2dReLUPool:
        n, k, rows, columns = wanted.shape
        wanted = wanted.reshape(n, k, rows // 2, 2, columns // 2, 2).max((3, 5))
    _same(found.y[0].plain(), wanted)


def test_rounding_errors_are_those_of_fp32_sums() -> None:
    conv = Conv2d(64, 3, padding=1, precision="bf16")
    given = _given(conv, (64, 14, 14), 2, tiny=False)
    found = harness.run(conv, given).y[0].plain()
    weight = rounded(_single(given.parameters["weight"])).astype(np.float64)
    taps = _taps(conv, _single(given.inputs[0])).astype(np.float64)
    exact = np.einsum("nijuvc,kcuv->nkij", taps, weight) + given.parameters["bias"][:, None, None]
    assert np.linalg.norm(found - exact) < 2e-3 * np.linalg.norm(exact)  # y is bf16
