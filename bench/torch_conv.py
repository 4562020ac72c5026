"""PyTorch on one convolution: each pass in each memory format, oneDNN's own blocks among them."""

import time

import torch

from bench.against import CONVOLUTIONS
from bench.shapes import problems
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
        assert isinstance(layer, CONVOLUTIONS)
        out_channels, channels, *kernel = layer.parameters(shape)["weight"].shape
        if layer.pads[:2] != layer.pads[2:]:
            raise ValueError(f"{name}: padding that differs from side to side is not measured here")
        self._stride, self._padding = [layer.stride] * 2, list(layer.pads[:2])
        self._groups = shape[0] // channels
        x = torch.randn(minibatch, *shape)
        weight = torch.randn(out_channels, channels, *kernel) * channels**-0.5
        self._bias = torch.randn(out_channels)
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
                weight.to_mkldnn(), self._padding, self._stride, [1, 1], self._groups, [minibatch, *shape]
            )
            self._packed_bias = self._bias.to_mkldnn()
            self._dy = self._blocked_forward()
        else:
            self._x = x.contiguous(memory_format=_FORMATS[layout])
            self._weight = weight.contiguous(memory_format=_FORMATS[layout])
            self._dy = torch.randn_like(self._plain_forward())

    def _blocked_forward(self) -> torch.Tensor:
        return _convolve(self._x, self._packed, self._packed_bias, self._stride, self._padding, self._groups)

    def _plain_forward(self) -> torch.Tensor:
        return torch.conv2d(
            self._x, self._weight, self._bias, self._stride, self._padding, groups=self._groups
        )

    def _run(self, direction: str) -> None:
        if direction == FORWARD and self._blocked:
            self._blocked_forward()
        elif direction == FORWARD:
            self._plain_forward()
        else:
            of_data = direction == BACKWARD_DATA
            torch.ops.aten.convolution_backward(
                self._dy, self._x, self._weight, [len(self._bias)], self._stride, self._padding, [1, 1],
                False, [0, 0], self._groups, [of_data, not of_data, not of_data],
            )  # fmt: skip


def _convolve(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor,
    stride: list[int],
    padding: list[int],
    groups: int = 1,
) -> torch.Tensor:
    result: torch.Tensor = torch.mkldnn_convolution(x, weight, bias, padding, stride, [1, 1], groups)
    return result
