"""PyTorch on one convolution: each pass in each memory format, oneDNN's own blocks among them."""

import time

import torch

from bench.shapes import problems
from layers.conv2d import Conv2d
from layers.work import BACKWARD_DATA, FORWARD

_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


class TorchConv:
    """The convolutions of `bench.shapes.problems`, one at a time, on noise."""

    def __init__(self, *, threads: int):
        torch.set_num_threads(threads)
        self._name, self._layout = "", ""

    def seconds(self, problem: str, layout: str, direction: str, least_s: float, minibatch: int) -> float:
        """Return the time of one call of a pass: the mean of as many as take `least_s`."""
        with torch.no_grad():
            if (self._name, self._layout) != (f"{problem}@{minibatch}", layout):
                self._prepare(problem, layout, minibatch)
                self._name, self._layout = f"{problem}@{minibatch}", layout
                self._warm: set[str] = set()
            if direction not in self._warm:
                self._run(direction)
                self._warm.add(direction)
            first = self._timed(direction, 1)
            calls = max(1, int(least_s / max(1e-7, first)))
            return first if calls == 1 else self._timed(direction, calls)

    def _timed(self, direction: str, calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            self._run(direction)
        return (time.perf_counter() - start) / calls

    def _prepare(self, name: str, layout: str, minibatch: int) -> None:
        problem = problems()[name]
        layer, (shape,) = problem.layer, problem.inputs
        assert isinstance(layer, Conv2d)
        extents = layer.extents(shape)
        self._stride, self._padding = [layer.stride] * 2, list(extents.padding)
        x = torch.randn(minibatch, *shape)
        weight = torch.randn(layer.out_channels, shape[0], *layer.kernel_size) * extents.ifm**-0.5
        self._bias = torch.randn(layer.out_channels)
        self._blocked = layout == "blocked"
        if self._blocked:
            # A result of oneDNN has its own format: that is how it gets x, unless x is the network's input.
            if not problem.first:
                same = torch.eye(shape[0])[:, :, None, None]
                x = _convolve(x.to_mkldnn(), same, torch.zeros(shape[0]), [1, 1], [0, 0])
            else:
                x = x.to_mkldnn()
            self._x, self._weight = x, weight
            self._packed = torch.ops.aten.mkldnn_reorder_conv2d_weight(
                weight.to_mkldnn(), self._padding, self._stride, [1, 1], 1, [minibatch, *shape]
            )
            self._packed_bias = self._bias.to_mkldnn()
            self._dy = _convolve(x, self._packed, self._packed_bias, self._stride, self._padding)
        else:
            self._x = x.contiguous(memory_format=_FORMATS[layout])
            self._weight = weight.contiguous(memory_format=_FORMATS[layout])
            y = torch.conv2d(self._x, self._weight, self._bias, self._stride, self._padding)
            self._dy = torch.randn_like(y)

    def _run(self, direction: str) -> None:
        if direction == FORWARD and self._blocked:
            _convolve(self._x, self._packed, self._packed_bias, self._stride, self._padding)
        elif direction == FORWARD:
            torch.conv2d(self._x, self._weight, self._bias, self._stride, self._padding)
        else:
            of_data = direction == BACKWARD_DATA
            torch.ops.aten.convolution_backward(
                self._dy, self._x, self._weight, [len(self._bias)], self._stride, self._padding, [1, 1],
                False, [0, 0], 1, [of_data, not of_data, not of_data],
            )  # fmt: skip


def _convolve(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, stride: list[int], padding: list[int]
) -> torch.Tensor:
    result: torch.Tensor = torch.mkldnn_convolution(x, weight, bias, padding, stride, [1, 1], 1)
    return result
