"""Weight gradients of convolutions on tiles, in software, against the order of the contract in numpy."""

import numpy as np
import pytest
from numpy.typing import NDArray

from layers import layout
from layers.kernels import conv_tiles_weights, runs, threads
from layers.kernels.conv_tiles_weights import Lines
from layers.kernels.tile_unit import SOFTWARE
from tests.layers import bf16_model, harness
from tests.layers.test_conv_tiles import CASES, Case, stored_image

Array = NDArray[np.float32]
THREADS = 2


@pytest.fixture(autouse=True)
def _workers_get_even_little_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "INLINE_WORK", 0)


def _gradient(case: Case, leaves: int, cut: int) -> Array:
    """Return the gradient, OIHW, of leaves that are cut into so many runs each."""
    x, _, _, dy = case.operands()
    (rows, columns), total = case.result, case.samples // leaves * case.result[0]
    apart = [(taps - 1) * case.dilation // case.stride for taps in case.kernel]
    pitch = columns + apart[1]
    height = (rows + apart[0]) * case.stride + case.dilation * case.kernel[0]
    width = (pitch + 1) * case.stride + case.dilation * case.kernel[1]
    padded = np.zeros((*x.shape[:2], height, width), np.float32)
    top, left = case.padding
    part = padded[:, :, top : top + case.image[0], left : left + case.image[1]]
    part[...] = x[:, :, : part.shape[2], : part.shape[3]]
    lines = np.pad(dy, ((0, 0), (0, 0), (0, 0), (0, apart[1])))
    parts = []
    for leaf in range(leaves):
        for run in range(cut):
            first, end = (leaf * total + (run + more) * total // cut for more in range(2))
            sums = np.zeros((*case.kernel, case.outputs, case.channels), np.float32)
            while first < end:
                n, i = divmod(first, rows)
                count = min(rows - i, end - first)
                for u, v in np.ndindex(*case.kernel):
                    there = padded[n, :, u * case.dilation :: case.stride, v * case.dilation :: case.stride]
                    pixels = there[:, i : i + count, :pitch].reshape(case.channels, -1)
                    grads = lines[n, :, i : i + count].reshape(case.outputs, -1)
                    sums[u, v] = bf16_model.product(sums[u, v], grads, pixels.T)
                first += count
            parts.append(sums + np.float32(0))
    return bf16_model.tree(parts).transpose(2, 3, 0, 1)


def _computed(case: Case, leaves: int) -> Array:
    x, weights, _, dy = case.operands()
    parameter = layout.conv_weight(weights.shape, 1.0)
    gradient = np.full(parameter.blocked, np.nan, np.float32)
    lines = Lines(case.kernel, case.stride, case.dilation, *case.result, case.samples, leaves)
    room = lines.room(layout.blocks(case.channels), layout.blocks(case.outputs), THREADS)
    with harness.working_memory(room) as memory:
        conv_tiles_weights.backward_weights(
            harness.workers(THREADS), SOFTWARE, stored_image(x), stored_image(dy), memory,
            gradient, case.stride, case.padding, leaves, case.dilation,
        )  # fmt: skip
    return parameter.unpack(gradient)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_gradient_has_the_bits_of_the_model(case: Case) -> None:
    np.testing.assert_array_equal(_computed(case, 1).view(np.uint32), _gradient(case, 1, 1).view(np.uint32))


SEVERAL = Case(32, 48, (7, 6), samples=4)
TINY = Case(16, 16, (4, 3), samples=4, scale=2.0**-63)


@pytest.mark.parametrize("leaves", [1, 2, 4])
@pytest.mark.parametrize("longest", [20, 50, 1000])
def test_leaves_and_runs_are_added_as_a_tree(
    leaves: int, longest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "LONGEST", longest)
    for case in (SEVERAL, TINY):
        cut = runs.runs_of_leaf(case.samples // leaves, *case.result)
        expected = _gradient(case, leaves, cut)
        np.testing.assert_array_equal(_computed(case, leaves).view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("band", [1, 3])
@pytest.mark.parametrize("tasks", [0, 100])
def test_neither_bands_nor_tasks_change_a_bit(band: int, tasks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = _computed(SEVERAL, 2)
    monkeypatch.setattr(conv_tiles_weights, "BAND", band)
    monkeypatch.setattr(conv_tiles_weights, "TASKS_PER_THREAD", tasks)
    np.testing.assert_array_equal(_computed(SEVERAL, 2), usual)
