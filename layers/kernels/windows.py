"""The inputs that a pooling window covers, and the windows that cover an input, along one axis."""

from layers.kernels.jit import inline


@inline
def covered(i, window, stride, padding, size):
    """Return the range of taps of window `i` that lie inside the image, and the input of the first."""
    start = i * stride - padding
    u0 = max(0, -start)
    return u0, min(window, size - start), start + u0


@inline
def covering(position, window, stride, padding, outputs):
    """Return the range of windows that cover input `position`, and its tap in the first of them.

    The tap falls by `stride` from one window to the next.
    """
    padded = position + padding
    i0 = max(0, (padded - window + stride) // stride)
    return i0, min(outputs, padded // stride + 1), padded - i0 * stride
