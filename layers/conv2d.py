"""Two-dimensional convolution."""

from dataclasses import dataclass

from layers import layout
from layers.kernels import conv_direct
from layers.kernels.leaves import stack_depth
from layers.kernels.simd import LANES
from layers.layer import Buffers, Context, Halo, Layer, Parameter, Scratch, Shape


@dataclass(frozen=True)
class Conv2d(Layer):
    """y[n, k, i, j] = bias[k] + sum over c, u, v of x[n, c, i*stride + u - pad, ...] * weight[k, c, u, v].

    Parameters
    ----------
    out_channels : int
    kernel, padding : int or (rows, columns)
    stride : int
    gain : float
        The initial weights have the variance gain / fan_in: 2 suits ReLU (He et al. 2015).
    """

    out_channels: int
    kernel: int | tuple[int, int]
    stride: int = 1
    padding: int | tuple[int, int] = 0
    gain: float = 2.0

    reads_x = True

    def __post_init__(self) -> None:
        if min(*self._kernel, self.stride, self.out_channels) < 1 or min(self._padding) < 0:
            raise ValueError(f"{self}: channels, kernel and stride must be at least 1, padding at least 0")

    @property
    def _kernel(self) -> tuple[int, int]:
        return _pair(self.kernel)

    @property
    def _padding(self) -> tuple[int, int]:
        return _pair(self.padding)

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return (out_channels, OH, OW)."""
        (shape,) = inputs
        if len(shape) != 3:
            raise ValueError(f"a convolution wants images (C, H, W), got samples of shape {shape}")
        (r, s), (pad_h, pad_w) = self._kernel, self._padding
        rows, columns = shape[1] + 2 * pad_h - r, shape[2] + 2 * pad_w - s
        if rows < 0 or columns < 0:
            raise ValueError(
                f"a {r}x{s} kernel does not fit an image of {shape[1]}x{shape[2]} with {pad_h, pad_w} padding"
            )
        return self.out_channels, rows // self.stride + 1, columns // self.stride + 1

    def parameters(self, *inputs: Shape) -> dict[str, Parameter]:
        """Return weight (OIHW) and bias."""
        ((channels, _, _),) = inputs
        return {
            "weight": layout.conv_weight((self.out_channels, channels, *self._kernel), self.gain),
            "bias": layout.bias(self.out_channels),
        }

    def scratch(self, samples: int, leaves: int, threads: int, *inputs: Shape) -> dict[str, Scratch]:
        """Return the stacks of partial sums, and room for the weights transposed."""
        ((channels, _, _),) = inputs
        transposed = layout.conv_weight((channels, self.out_channels, *self._kernel), self.gain).blocked
        k_blocks, c_blocks = layout.blocks(self.out_channels), layout.blocks(channels)
        stack = conv_direct.weight_stack_shape(k_blocks, c_blocks, channels, self._kernel[1], leaves, threads)
        return {
            "transposed": Scratch(transposed),
            "weight_stack": Scratch(stack),
            "bias_stack": Scratch((threads, stack_depth(leaves), LANES)),
        }

    def halo(self, *inputs: Shape) -> Halo:
        """Return the columns that the kernel reaches beyond a row of x."""
        return conv_direct.halo(*self._columns(*inputs))

    def gradient_halo(self, *inputs: Shape) -> Halo:
        """Return the columns that backward_data reaches beyond a row of dy."""
        return conv_direct.gradient_halo(*self._columns(*inputs))

    def _columns(self, *inputs: Shape) -> tuple[int, int, int, int, int]:
        return inputs[0][2], self.output_shape(*inputs)[2], self._kernel[1], self.stride, self._padding[1]

    def flops(self, *inputs: Shape) -> int:
        """Return 2 * K * OH * OW * C * R * S."""
        _, rows, columns = self.output_shape(*inputs)
        r, s = self._kernel
        return 2 * self.out_channels * rows * columns * inputs[0][0] * r * s

    def forward(self, at: Buffers, run: Context) -> None:
        """Write y."""
        (x,), (y,), channels = at.x, at.y, at.shapes[0][0]
        weight, bias = at.weights["weight"], at.weights["bias"]
        conv_direct.forward(run.threads, x, weight, bias, y, channels, self.stride, self._padding)

    def backward_weights(self, at: Buffers, run: Context) -> None:
        """Write the gradients of weight and bias."""
        (x,), (dy,), channels = at.x, at.dy, at.shapes[0][0]
        stack, gradient = at.scratch["weight_stack"], at.gradients["weight"]
        conv_direct.backward_weights(
            run.threads, x, dy, stack, gradient, channels, self.stride, self._padding, run.leaves
        )
        conv_direct.bias_gradient(run.threads, dy, at.scratch["bias_stack"], at.gradients["bias"], run.leaves)

    def backward_data(self, at: Buffers, run: Context) -> None:
        """Write dx."""
        (dy,), (dx,) = at.dy, at.dx
        weight, transposed = at.weights["weight"], at.scratch["transposed"]
        conv_direct.backward_data(run.threads, dy, weight, transposed, dx, self.stride, self._padding)


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else value
