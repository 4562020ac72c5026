"""The layout of activations and parameters in memory, and conversions to it and back.

None of this runs in the step loop: it serves set-up, checkpoints and tests. `layers.kernels.reorder` converts
minibatches.
"""

import numpy as np

from layers.arithmetic import ceil_div
from layers.kernels.simd import LANES
from layers.layer import Array, Halo, Parameter, Shape

GROUP = 2
"""Vectors of output channels that lie side by side in a weight array."""


def blocks(channels: int) -> int:
    """Return the number of LANES-wide blocks that hold `channels`."""
    return ceil_div(channels, LANES)


def group(channels: int) -> int:
    """Return how many vectors of output channels form one group: GROUP, or 1 where the blocks are odd."""
    return GROUP if blocks(channels) % GROUP == 0 else 1


def storage_shape(shape: Shape, samples: int, halo: Halo, lanes: int = LANES) -> Shape:
    """Return the shape of the array that stores `samples` of a value, halo included.

    Parameters
    ----------
    lanes
        Values of a pixel that lie side by side; of a network's input perhaps as many as it has channels.
    """
    if len(shape) == 3:
        channels, height, width = shape
        return (samples, ceil_div(channels, lanes), height, halo[0] + width + halo[1], lanes)
    (features,) = shape
    return (samples, blocks(features) * LANES)


def interior(storage: Array, shape: Shape, halo: Halo) -> Array:
    """Return the view of a stored value without its halo."""
    return storage[:, :, :, halo[0] : halo[0] + shape[2], :] if len(shape) == 3 else storage


def to_blocked(plain: Array, blocked: Array) -> None:
    """Write plain ``[N, C, H, W]`` or ``[N, F]`` into its stored form, padded lanes included."""
    blocked[...] = 0
    if plain.ndim == 2:
        blocked[:, : plain.shape[1]] = plain
        return
    lanes = blocked.shape[4]
    for channel in range(plain.shape[1]):
        blocked[:, channel // lanes, :, :, channel % lanes] = plain[:, channel]


def from_blocked(blocked: Array, shape: Shape) -> Array:
    """Return the plain ``[N, C, H, W]`` or ``[N, F]`` of a stored value."""
    if len(shape) == 1:
        return np.ascontiguousarray(blocked[:, : shape[0]])
    samples, channel_blocks, height, width, lanes = blocked.shape
    plain = blocked.transpose(0, 1, 4, 2, 3).reshape(samples, channel_blocks * lanes, height, width)
    return np.ascontiguousarray(plain[:, : shape[0]])


def conv_weight(shape: Shape, gain: float) -> Parameter:
    """Describe convolution weights: OIHW stored as ``[O/(V*LANES), I/LANES, R, S, LANES, V*LANES]``."""
    k, c, r, s = shape
    width = group(k) * LANES
    blocked = (blocks(k) * LANES // width, blocks(c), r, s, LANES, width)

    def pack(standard: Array, out: Array) -> None:
        padded = np.zeros((len(out) * width, blocked[1] * LANES, r, s), np.float32)
        padded[: len(standard), :c] = standard
        out[...] = padded.reshape(len(out), width, blocked[1], LANES, r, s).transpose(0, 2, 4, 5, 3, 1)

    def unpack(stored: Array) -> Array:
        padded = stored.transpose(0, 5, 1, 4, 2, 3).reshape(blocked[0] * width, blocked[1] * LANES, r, s)
        return np.ascontiguousarray(padded[:k, :c])

    return Parameter(shape, blocked, pack, unpack, gain / (c * r * s), block_rows=width)


def linear_weight(shape: Shape, gain: float) -> Parameter:
    """Describe fully connected weights: [out, in] stored as ``[out/(V*LANES), in, V*LANES]``."""
    k, c = shape
    width = group(k) * LANES
    blocked = (blocks(k) * LANES // width, blocks(c) * LANES, width)

    def pack(standard: Array, out: Array) -> None:
        out[:, c:] = 0
        out[-1] = 0
        for index in range(len(out)):
            rows = standard[index * width : (index + 1) * width]
            out[index, :c, : len(rows)] = rows.T

    def unpack(stored: Array) -> Array:
        standard = np.empty((blocked[0] * width, c), np.float32)
        for index in range(blocked[0]):
            standard[index * width : (index + 1) * width] = stored[index, :c].T
        return np.ascontiguousarray(standard[:k])

    return Parameter(shape, blocked, pack, unpack, gain / c, block_rows=width)


def bias(features: int) -> Parameter:
    """Describe a bias: [out], padded to whole vectors."""

    def pack(standard: Array, out: Array) -> None:
        out[:features], out[features:] = standard, 0

    return Parameter(
        (features,), (blocks(features) * LANES,), pack, lambda stored: stored[:features].copy(), 0.0
    )
