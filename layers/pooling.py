"""The geometry of pooling windows."""

from layers.arithmetic import ceil_div
from layers.layer import Shape

Window = int | tuple[int, int] | None


def window_size(window: Window, shape: Shape) -> tuple[int, int]:
    """Return (rows, columns); None is the whole image."""
    if window is None:
        return shape[1], shape[2]
    return (window, window) if isinstance(window, int) else window


def pooled_shape(
    shape: Shape, window: Window, stride: int, padding: int = 0, *, ceil_mode: bool = False
) -> Shape:
    """Return (C, OH, OW), without windows that would end outside the padded image.

    With `ceil_mode` a last window may end outside, as long as it begins inside the image or in front of it.
    """
    if len(shape) != 3:
        raise ValueError(f"pooling wants images (C, H, W), got samples of shape {shape}")
    channels, height, width = shape
    r, s = window_size(window, shape)
    rows, columns = height + 2 * padding - r, width + 2 * padding - s
    if rows < 0 or columns < 0:
        padded = f" with padding {padding}" if padding else ""
        raise ValueError(
            f"window {r}x{s} with stride {stride} does not fit an image of {height}x{width}{padded}"
        )
    if not ceil_mode:
        return channels, rows // stride + 1, columns // stride + 1
    return (
        channels,
        min(ceil_div(rows, stride), (height + padding - 1) // stride) + 1,
        min(ceil_div(columns, stride), (width + padding - 1) // stride) + 1,
    )
