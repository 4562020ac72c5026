"""The geometry of convolutions: where the taps of a kernel lie, and the size of what comes out."""

from layers.layer import Shape
from layers.onnx_form import Attribute

Padding = int | tuple[int, int] | tuple[tuple[int, int], tuple[int, int]]


def pair(value: int | tuple[int, int]) -> tuple[int, int]:
    """Return rows and columns; one number is both."""
    return (value, value) if isinstance(value, int) else value


def pads_of(padding: Padding) -> tuple[int, int, int, int]:
    """Return the zeros above, left of, below and right of an image."""
    rows, columns = (padding,) * 2 if isinstance(padding, int) else padding
    (top, bottom), (left, right) = pair(rows), pair(columns)
    return top, left, bottom, right


def reach(kernel: tuple[int, int], dilation: int) -> tuple[int, int]:
    """Return the rows and columns from the first to the last tap of a kernel."""
    return (kernel[0] - 1) * dilation + 1, (kernel[1] - 1) * dilation + 1


def convolved_size(
    shape: Shape, kernel: tuple[int, int], stride: int, padding: Padding, dilation: int
) -> tuple[int, int]:
    """Return the rows and columns that a convolution makes of an image (C, H, W).

    Raises
    ------
    ValueError
        It is no image, or the kernel does not fit it.
    """
    if len(shape) != 3:
        raise ValueError(f"a convolution wants images (C, H, W), got samples of shape {shape}")
    (r, s), (top, left, bottom, right) = reach(kernel, dilation), pads_of(padding)
    rows, columns = top + shape[1] + bottom - r, left + shape[2] + right - s
    if rows < 0 or columns < 0:
        raise ValueError(
            f"a {r}x{s} kernel does not fit an image of {shape[1]}x{shape[2]} with padding {padding}"
        )
    return rows // stride + 1, columns // stride + 1


def onnx_attributes(
    kernel: tuple[int, int], stride: int, padding: Padding, dilation: int
) -> dict[str, Attribute]:
    """Return the attributes of ONNX's Conv; its pads are those above, left, below and right."""
    return {
        "kernel_shape": kernel,
        "strides": (stride, stride),
        "pads": pads_of(padding),
        "dilations": (dilation, dilation),
    }
