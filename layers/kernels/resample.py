"""Images of another size, with bilinear weights over all pixels that a new one covers: Pillow's, to the bit.

Fixed point as in its ``Resample.c``: weights of 22 fractional bits, rows first, then rounded to 8 bits.
"""

from functools import lru_cache

import numpy as np
from llvmlite import ir
from numba import boolean, float32, int32, int64, types, uint8, void
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


def resample(pixels, out, *, region: Region, box: Box, mirrored: bool = False) -> None:
    """Make an image of a part of another one, on the calling thread.

    Parameters
    ----------
    pixels : uint8 [H, W, C]
        Of one channel or three, C-contiguous.
    out : uint8 [C, h, w]
        Overwritten; C-contiguous.
    region
        Pixels that count; those outside are as if cut off.
    box
        What becomes the new image, from the region's left upper corner.
    mirrored
        The new image is turned left to right.
    """
    left, upper, right, lower = region
    across = _taps(right - left, box[0], box[2], out.shape[2])
    down = _taps(lower - upper, box[1], box[3], out.shape[1])
    first, last = int(down[0][0]), int(down[0][-1] + down[1][-1])
    channels, _, width = out.shape
    rows = np.empty((last - first, width * channels + 1), np.uint8)  # and a byte that is spoiled
    last_row = np.empty(pixels.shape[1] * channels + 1, np.uint8)
    _across()(pixels, upper + first, left, *across, last_row, rows)
    _down()(rows, first, *down, np.empty(width * channels, np.int32), mirrored, out)


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
        taps = weights.shape[1]
        images, ends = np.int64(pixels.ctypes.data), np.int64(last_row.ctypes.data)
        factors, made = np.int64(weights.ctypes.data), np.int64(rows.ctypes.data)
        for i in range(len(rows)):
            source = images + (first_row + i) * width * channels
            if first_row + i == height - 1:  # a load of four bytes may go beyond it
                last_row[: width * channels] = pixels[height - 1].reshape(width * channels)
                source = ends
            for j in range(len(origins)):
                origin = source + (first_column + origins[j]) * channels
                place = made + i * rows.shape[1] + j * channels
                if channels == 3:
                    weigh_colours(origin, factors + 4 * j * taps, counts[j], place)
                else:
                    weigh_byte(origin, factors + 4 * j * taps, counts[j], place)

    return resample_rows


@lru_cache(maxsize=1)
def _down():
    @native(
        void(
            uint8[:, ::1], int64, int64[::1], int64[::1], int32[:, ::1], int32[::1], boolean, uint8[:, :, ::1]
        )
    )
    def resample_columns(rows, first_row, origins, counts, weights, sums, mirrored, out):
        channels, height, width = out.shape
        for i in range(height):
            sums[:] = _ROUNDED
            for tap in range(counts[i]):
                weight, row = weights[i, tap], origins[i] - first_row + tap
                for j in range(len(sums)):
                    sums[j] += weight * int32(rows[row, j])
            for c in range(channels):
                if mirrored:
                    for j in range(width):
                        out[c, i, width - 1 - j] = sums[j * channels + c] >> _FRACTION
                else:
                    for j in range(width):
                        out[c, i, j] = sums[j * channels + c] >> _FRACTION

    return resample_columns


@intrinsic
def weigh_colours(_, pixels, weights, count, place):
    """Store the weighted sum of `count` pixels of three bytes; a fourth one, behind it, is spoiled."""
    return types.void(pixels, weights, count, place), _emit_weighing(4, 3)


@intrinsic
def weigh_byte(_, pixels, weights, count, place):
    """Store the weighted sum of `count` bytes."""
    return types.void(pixels, weights, count, place), _emit_weighing(1, 1)


def _emit_weighing(lanes, step):
    """Return what emits a sum over pixels, `step` bytes from one to the next, of as many bytes as lanes."""
    sums, narrow = ir.VectorType(ir.IntType(32), lanes), ir.VectorType(ir.IntType(8), lanes)
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)

    def emit(context, builder, _signature, arguments):
        pixels, weights, count, place = arguments
        colours = builder.inttoptr(pixels, ir.IntType(8).as_pointer())
        factors = builder.inttoptr(weights, ir.IntType(32).as_pointer())
        total = cgutils.alloca_once(builder, sums)
        builder.store(ir.Constant(sums, [_ROUNDED] * lanes), total)
        with cgutils.for_range(builder, count) as loop:
            at = builder.gep(colours, [builder.mul(loop.index, ir.Constant(loop.index.type, step))])
            wide = builder.zext(builder.load(builder.bitcast(at, narrow.as_pointer()), align=1), sums)
            weight = builder.load(builder.gep(factors, [loop.index]))
            first = builder.insert_element(
                ir.Constant(sums, ir.Undefined), weight, ir.Constant(ir.IntType(32), 0)
            )
            weighed = builder.mul(wide, builder.shuffle_vector(first, first, zeros))
            builder.store(builder.add(builder.load(total), weighed), total)
        rounded = builder.lshr(builder.load(total), ir.Constant(sums, [_FRACTION] * lanes))
        stored = builder.inttoptr(place, narrow.as_pointer())
        builder.store(builder.trunc(rounded, narrow), stored, align=1)
        return context.get_dummy_value()

    return emit
