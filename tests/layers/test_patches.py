"""Patches of an image, against numpy."""

import numpy as np
import pytest

from layers import layout
from layers.kernels import patches
from layers.kernels.simd import LANES
from tests.layers import harness
from tests.layers.bf16_model import rounded

CASES = [  # channels, image, kernel, stride, padding, dilation
    (3, (9, 40), (3, 3), 1, (1, 1), 1),
    (3, (9, 76), (7, 7), 2, (3, 3), 1),
    (1, (6, 5), (1, 1), 1, (0, 0), 1),
    (5, (11, 13), (5, 3), 3, (2, 0), 1),
    (3, (12, 14), (3, 2), 2, (2, 3), 3),
    (16, (4, 5), (3, 3), 1, (1, 1), 1),
    (19, (4, 6), (3, 3), 1, (1, 1), 1),
    (35, (5, 6), (2, 3), 1, (1, 2), 2),
    (2, (2, 2), (1, 3), 1, (4, 9), 1),  # columns and rows with nothing but zeros
]


@pytest.mark.parametrize(("channels", "image", "kernel", "stride", "padding", "dilation"), CASES)
@pytest.mark.parametrize("dense", [True, False])
def test_patches_are_the_pixels_that_taps_meet(
    channels: int,
    image: tuple[int, int],
    kernel: tuple[int, int],
    stride: int,
    padding: tuple[int, int],
    dilation: int,
    dense: bool,
) -> None:
    plain = np.random.default_rng(0).standard_normal((2, channels, *image), np.float32)
    stored = np.full(layout.storage_shape(plain.shape[1:], 2, (1, 2)), np.nan, np.float32)
    x = layout.interior(stored, plain.shape[1:], (1, 2))
    layout.to_blocked(plain, x)
    if dense:
        x = np.ascontiguousarray(plain.transpose(0, 2, 3, 1))[:, None]
    seen = np.pad(rounded(plain), ((0, 0), (0, 0), *((each, each) for each in padding)))
    reach = [(size - 1) * dilation + 1 for size in kernel]
    seen = np.lib.stride_tricks.sliding_window_view(seen, reach, axis=(2, 3))
    seen = seen[:, :, ::stride, ::stride, ::dilation, ::dilation]  # [N, C, OH, OW, R, S]
    rows, columns = seen.shape[2:4]
    blocks = patches.blocks(channels, kernel)
    wanted = np.zeros((2, blocks * LANES, rows, columns), np.float32)
    wanted[:, : channels * kernel[0] * kernel[1]] = seen.transpose(0, 4, 5, 1, 2, 3).reshape(
        2, -1, rows, columns
    )
    room = patches.room(channels, kernel, stride, dilation, columns, 2)
    with harness.working_memory([(2, blocks, rows, columns, LANES), room]) as (made, memory):
        patches.make_patches(harness.workers(2), x, made, channels, kernel, stride, padding, dilation, memory)
        np.testing.assert_array_equal(layout.from_blocked(made, wanted.shape[1:]), wanted)
