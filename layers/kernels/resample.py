"""Images of another size, with bilinear weights over all pixels that a new one covers: Pillow's, to the bit.

Fixed point as in its ``Resample.c``: weights of 22 fractional bits, rows first, then rounded to 8 bits.
"""

from functools import lru_cache

import numpy as np
from llvmlite import ir
from numba import float32, int32, int64, types, uint8, void
from numba.core import cgutils
from numba.extending import intrinsic

from layers.kernels.jit import inline, native

_FRACTION = 22
_ROUNDED = 1 << (_FRACTION - 1)
_PIXELS = types.Array(uint8, 3, "C", readonly=True)

Region = tuple[int, int, int, int]
"""(left, upper, right, lower), in whole pixels."""
Box = tuple[float, float, float, float]
"""The same, in pixels and parts of them."""


def resample(pixels, out, *, region: Region, box: Box) -> None:
    """Make an image of a part of another one, on the calling thread.

    Parameters
    ----------
    pixels : uint8 [H, W, C]
        C-contiguous.
    out : uint8 [C, h, w]
        Overwritten; C-contiguous.
    region
        Pixels that count; those outside are as if cut off.
    box
        What becomes the new image, from the region's left upper corner.
    """
    left, upper, right, lower = region
    across = _taps(right - left, box[0], box[2], out.shape[2])
    down = _taps(lower - upper, box[1], box[3], out.shape[1])
    first, last = int(down[0][0]), int(down[0][-1] + down[1][-1])
    channels, _, width = out.shape
    rows = np.empty((last - first, width * channels + 1), np.uint8)  # and a byte that is spoiled
    last_row = np.empty(pixels.shape[1] * channels + 1, np.uint8)
    _across()(pixels, upper + first, left, *across, last_row, rows)
    _down()(rows, first, *down, np.empty(width * channels, np.int32), out)


def _taps(size, start, stop, places):
    """Return origins, counts and fixed-point weights of the pixels that each new one is made of."""
    start, stop = np.float32(start), np.float32(stop)
    widest = int(np.ceil(max(float(stop - start) / places, 1.0))) * 2 + 1
    origins, counts = np.empty(places, np.int64), np.empty(places, np.int64)
    weights = np.zeros((places, widest), np.int32)
    _weigh()(size, start, stop, origins, counts, weights)
    return origins, counts, weights


@lru_cache(maxsize=1)
def _weigh():
    @native(void(int64, float32, float32, int64[::1], int64[::1], int32[:, ::1]))
    def weigh(size, start, stop, origins, counts, weights):
        places = len(origins)
        scale = np.float64(np.float32(stop - start)) / places
        width = max(scale, 1.0)  # of the triangle, to either side
        for place in range(places):
            centre = np.float64(start) + (place + 0.5) * scale
            origin = max(int(centre - width + 0.5), 0)
            count = min(int(centre + width + 0.5), size) - origin
            total = 0.0
            for tap in range(count):
                total += _triangle((tap + origin - centre + 0.5) * (1.0 / width))
            for tap in range(count):
                weight = _triangle((tap + origin - centre + 0.5) * (1.0 / width))
                if total != 0.0:
                    weight /= total
                weights[place, tap] = int(0.5 + weight * (1 << _FRACTION))
            origins[place], counts[place] = origin, count

    return weigh


@inline
def _triangle(distance):
    return max(1.0 - abs(distance), 0.0)


@lru_cache(maxsize=1)
def _across():
    @native(void(_PIXELS, int64, int64, int64[::1], int64[::1], int32[:, ::1], uint8[::1], uint8[:, ::1]))
    def resample_rows(pixels, first_row, first_column, origins, counts, weights, last_row, rows):
        height, width, channels = pixels.shape
        for i in range(len(rows)):
            row = pixels[first_row + i].reshape(width * channels)
            if first_row + i == height - 1:  # a load of four bytes may go beyond it
                last_row[: len(row)] = row
                row = last_row
            for j in range(len(origins)):
                origin = (first_column + origins[j]) * channels
                if channels == 3:
                    weigh_colours(row, origin, weights[j], counts[j], rows[i], j * 3)
                    continue
                total = int32(_ROUNDED)
                for tap in range(counts[j]):
                    total += weights[j, tap] * int32(row[origin + tap])
                rows[i, j] = total >> _FRACTION

    return resample_rows


@lru_cache(maxsize=1)
def _down():
    @native(void(uint8[:, ::1], int64, int64[::1], int64[::1], int32[:, ::1], int32[::1], uint8[:, :, ::1]))
    def resample_columns(rows, first_row, origins, counts, weights, sums, out):
        channels, height, width = out.shape
        for i in range(height):
            sums[:] = _ROUNDED
            for tap in range(counts[i]):
                weight, row = weights[i, tap], origins[i] - first_row + tap
                for j in range(len(sums)):
                    sums[j] += weight * int32(rows[row, j])
            for c in range(channels):
                for j in range(width):
                    out[c, i, j] = sums[j * channels + c] >> _FRACTION

    return resample_columns


@intrinsic
def weigh_colours(_, pixels, start, weights, count, out, place):
    """Store the weighted sum of `count` pixels of three bytes; a fourth one, behind it, is spoiled."""

    def emit(context, builder, signature, arguments):
        pixels, start, weights, count, out, place = (
            cgutils.create_struct_proxy(kind)(context, builder, value)
            if isinstance(kind, types.Array)
            else value
            for kind, value in zip(signature.args, arguments, strict=True)
        )
        four = ir.VectorType(ir.IntType(32), 4)
        total = cgutils.alloca_once_value(builder, ir.Constant(four, [_ROUNDED] * 4))
        with cgutils.for_range(builder, count) as loop:
            at = builder.add(start, builder.mul(loop.index, ir.Constant(loop.index.type, 3)))
            colours = _load_bytes(builder, pixels.data, at)
            weight = builder.load(builder.gep(weights.data, [loop.index]))
            weighed = builder.mul(builder.zext(colours, four), _four_times(builder, weight))
            builder.store(builder.add(builder.load(total), weighed), total)
        shifted = builder.lshr(builder.load(total), ir.Constant(four, [_FRACTION] * 4))
        narrow = builder.trunc(shifted, ir.VectorType(ir.IntType(8), 4))
        builder.store(narrow, _bytes_at(builder, out.data, place), align=1)
        return context.get_dummy_value()

    return types.void(pixels, start, weights, count, out, place), emit


def _bytes_at(builder, pointer, offset):
    four = ir.VectorType(ir.IntType(8), 4).as_pointer()
    return builder.bitcast(builder.gep(pointer, [offset]), four)


def _load_bytes(builder, pointer, offset):
    return builder.load(_bytes_at(builder, pointer, offset), align=1)


def _four_times(builder, scalar):
    undefined = ir.Constant(ir.VectorType(scalar.type, 4), ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(ir.IntType(32), 4), [0] * 4))
