"""The weight gradient of a convolution of bf16 values, with the sums of `paired_tile`.

The pixels of an image lie in lines here, as `pixel_lines` says.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from numba import float32, int64
from numpy.lib.stride_tricks import as_strided

from layers.arithmetic import ceil_div
from layers.kernels.conv_direct_weights import TASKS_PER_THREAD, WEIGHT, copy_gradient, task_block
from layers.kernels.flush_mode import begin_flushing, end_flushing
from layers.kernels.jit import kernel
from layers.kernels.leaves import stack_depth, tree_add_unflushed
from layers.kernels.line_tile import line_tile
from layers.kernels.matrix_tiles import Rows
from layers.kernels.paired_tile import BLOCK
from layers.kernels.pixel_lines import PixelLines
from layers.kernels.pixel_tiles import copy_strided, in_place
from layers.kernels.register_tile import Tile, Vectors
from layers.kernels.residues import step_and_fall
from layers.kernels.rows import IMAGE, row_address
from layers.kernels.runs import rows_of_run, runs_of_leaf
from layers.kernels.simd import LANES
from layers.kernels.target import TARGET
from layers.kernels.threads import Threads

LINES = float32[:, :, :]
_BAND = 4 * BLOCK  # pixels: two vectors of dy stay in the first-level cache, and those of x beside them
_ROWS = 4 if TARGET.width == LANES else 2


@dataclass(frozen=True)
class Lines(PixelLines):
    """How pixels of x and dy lie in lines, in memory."""

    @property
    def x_pixels(self) -> int:
        """Pixels of a line of x."""
        return self.x_rows * self.pitch + self.right

    @property
    def x_is_line(self) -> bool:
        """Say whether each pixel of x is met by one tap, as it lies."""
        return self.kernel == (1, 1) and self.stride == 1

    def x_shape(self, samples: int, blocks: int) -> tuple[int, int, int]:
        """Return the shape of the lines of x."""
        down, right = self.residues
        return samples, blocks, down * right * self.x_pixels * LANES

    def dy_shape(self, samples: int, blocks: int) -> tuple[int, int, int]:
        """Return the shape of the lines of dy."""
        return samples, blocks, self.rows * self.pitch * LANES


def tile_shape(k_blocks: int) -> tuple[int, int]:
    """Return (rows, vectors) of the tile: input channels by output vectors."""
    return _ROWS, 2 if k_blocks % 2 == 0 else 1


def stack_shape(
    k_blocks: int, c_blocks: int, kernel: tuple[int, int], runs: int, threads: int
) -> tuple[int, ...]:
    """Return the shape of the partial sums, one stack a thread; `runs` of all leaves."""
    _, vectors = tile_shape(k_blocks)
    # With one tap a task is short of sums for the dy that it reads, so it has all that there are.
    per_thread = 1 if kernel == (1, 1) else TASKS_PER_THREAD
    rows, blocks = task_block(k_blocks, c_blocks, vectors, kernel, threads, per_thread=per_thread)
    return threads, stack_depth(runs), rows, blocks, kernel[1], LANES, vectors * LANES


def backward_weights(
    threads: Threads,
    x: Any,
    dy: Any,
    x_lines: Any,
    dy_lines: Any,
    stack: Any,
    gradient: Any,
    stride: int,
    padding: tuple[int, int],
    leaves: int,
    dilation: int = 1,
) -> None:
    """Write the gradient: in a run part after part of images, in each block after block of its line.

    Runs and leaves are added as a tree.

    Parameters
    ----------
    x : float32 [N, C/LANES, H, W, LANES]
        bf16 values, as in dy.
    dy : float32 [N, K/LANES, OH, OW, LANES]
    x_lines, dy_lines : float32, shapes from `Lines`
        Working memory.
    stack : float32, shape from `stack_shape`
        Working memory.
    gradient : float32 [K/(V*LANES), C/LANES, R, S, LANES, V*LANES]
    """
    kernel_shape = gradient.shape[2:4]
    lines = Lines(kernel_shape, stride, dilation, *dy.shape[2:4])
    k_blocks, c_blocks = dy.shape[1], x.shape[1]
    rows, vectors = tile_shape(k_blocks)
    taps, blocks = stack.shape[2:4]
    tasks = k_blocks // vectors * ceil_div(c_blocks, blocks) * ceil_div(kernel_shape[0], taps)
    cut = runs_of_leaf(len(dy) // leaves, *dy.shape[2:4])
    threads.run(
        _backward_weights(rows, vectors, stride, dilation), tasks, 2 * dy.size * gradient[0].size,
        _x_lines(threads, x, x_lines, lines, padding), _dy_lines(threads, dy, dy_lines, lines),
        stack, gradient, leaves, cut, lines.rows, lines.pitch, lines.x_pixels,
    )  # fmt: skip


def _x_lines(threads: Threads, x: Any, line: Any, lines: Lines, padding: tuple[int, int]) -> Any:
    """Return the lines of x, which are its own memory where they can be."""
    if lines.x_is_line and padding == (0, 0) and in_place(x) and x.shape[2:4] == (lines.rows, lines.columns):
        return _as_lines(x)
    down, right = lines.residues
    threads.run(
        _lay_x(lines.stride, lines.dilation), x.shape[0] * x.shape[1], x.size, x, line, down, right,
        lines.x_rows, lines.pitch, lines.x_pixels, *padding,
    )  # fmt: skip
    return line


def _dy_lines(threads: Threads, dy: Any, line: Any, lines: Lines) -> Any:
    if lines.right == 0 and in_place(dy):
        return _as_lines(dy)
    threads.run(_lay_dy(), dy.shape[0] * dy.shape[1], dy.size, dy, line, lines.pitch)
    return line


def _as_lines(image: Any) -> Any:
    samples, blocks, rows, columns, lanes = image.shape
    return as_strided(image, (samples, blocks, rows * columns * lanes), (*image.strides[:2], 4))


@lru_cache
def _lay_x(STRIDE, DILATION):
    @kernel(int64, int64, int64, IMAGE, LINES, int64, int64, int64, int64, int64, int64, int64)
    def conv_lay_x(worker, first, last, x, line, down, right, rows, pitch, pixels, pad_h, pad_w):
        blocks, height, width = x.shape[1], x.shape[2], x.shape[3]
        for task in range(first, last):  # all lines of one block of one sample
            n, block = divmod(task, blocks)
            for u in range(down):
                for v in range(right):
                    to = line[n, block, (u * right + v) * pixels * LANES :]
                    j0 = v * DILATION % STRIDE - pad_w
                    begin = max(0, ceil_div(-j0, STRIDE))
                    end = max(begin, min(pitch, ceil_div(width - j0, STRIDE)))
                    for i in range(rows):
                        h = i * STRIDE + u * DILATION % STRIDE - pad_h
                        row = to[i * pitch * LANES : (i + 1) * pitch * LANES]
                        if h < 0 or h >= height:
                            row[:] = float32(0)
                            continue
                        row[: begin * LANES] = float32(0)
                        row[end * LANES :] = float32(0)
                        source = row_address(x, n, block, h) + 4 * (j0 + begin * STRIDE) * LANES
                        copy_strided(row.ctypes.data + 4 * begin * LANES, source, STRIDE * LANES, end - begin)
                    to[rows * pitch * LANES : pixels * LANES] = float32(0)

    return conv_lay_x


@lru_cache
def _lay_dy():
    @kernel(int64, int64, int64, IMAGE, LINES, int64)
    def conv_lay_dy(worker, first, last, dy, line, pitch):
        blocks, rows, columns = dy.shape[1], dy.shape[2], dy.shape[3]
        for task in range(first, last):
            n, block = divmod(task, blocks)
            for i in range(rows):
                row = line[n, block, i * pitch * LANES : (i + 1) * pitch * LANES]
                copy_strided(row.ctypes.data, row_address(dy, n, block, i), LANES, columns)
                row[columns * LANES :] = float32(0)

    return conv_lay_dy


@lru_cache
def _backward_weights(ROWS, VECTORS, STRIDE, DILATION):
    PANEL = VECTORS * LANES
    TILE = Tile(ROWS, VECTORS, a_row=1)
    STEP, _ = step_and_fall(STRIDE, DILATION)

    @kernel(
        int64, int64, int64, LINES, LINES, float32[:, :, :, :, :, :, ::1], WEIGHT,
        int64, int64, int64, int64, int64,
    )  # fmt: skip
    def conv_paired_backward_weights(
        worker, first, last, x, dy, stack, gradient, leaves, cut, rows, pitch, x_pixels
    ):
        samples, c_blocks = x.shape[0], x.shape[1]
        r, s = gradient.shape[2], gradient.shape[3]
        taps, blocks = stack.shape[2], stack.shape[3]
        dy_block = dy.strides[1] // 4
        per_leaf, level = samples // leaves, stack.strides[1]
        base = stack.ctypes.data + worker * stack.strides[0]
        right = min(s, STEP)
        begin_flushing()
        for task in range(first, last):  # kernel rows and input blocks of one group of output channels
            kg, rest = divmod(task, ceil_div(c_blocks, blocks) * ceil_div(r, taps))
            cg, ug = divmod(rest, ceil_div(r, taps))
            cb0, u0 = cg * blocks, ug * taps
            cb1, u1 = min(c_blocks, cb0 + blocks), min(r, u0 + taps)
            top = 0
            for run in range(leaves * cut):
                row, end_row = rows_of_run(run, cut, per_leaf, rows)
                stack[worker, top] = 0
                while row < end_row:  # an image, or the part of one that is in the run
                    n, i = divmod(row, rows)
                    part_rows = min(rows - i, end_row - row)
                    row += part_rows
                    x_at = x.ctypes.data + n * x.strides[0]
                    b_at = dy.ctypes.data + n * dy.strides[0] + kg * VECTORS * dy.strides[1]
                    for done in range(0, part_rows * pitch, _BAND):
                        terms = min(_BAND, part_rows * pitch - done)
                        q = i * pitch + done
                        b = Vectors(b_at + 4 * q * LANES, dy_block)
                        for u in range(u0, u1):
                            for v in range(s):
                                line = u % STEP * right + v % STEP
                                shift = u * DILATION // STRIDE * pitch + v * DILATION // STRIDE
                                a = x_at + 4 * (line * x_pixels + q + shift) * LANES
                                for cb in range(cb0, cb1):
                                    partial = (
                                        base + top * level + (u - u0) * stack.strides[2]
                                        + (cb - cb0) * stack.strides[3] + v * stack.strides[4]
                                    )  # fmt: skip
                                    for lane in range(0, LANES, ROWS):
                                        line_tile(
                                            TILE, a + cb * x.strides[1] + 4 * lane, b,
                                            Rows(partial + 4 * lane * PANEL, PANEL), terms,
                                        )  # fmt: skip
                top = tree_add_unflushed(base, level, top, run, level // (4 * LANES))
            copy_gradient(stack[worker, 0], gradient, kg * VECTORS, VECTORS, u0, u1, cb0, cb1)
        end_flushing()

    return conv_paired_backward_weights
