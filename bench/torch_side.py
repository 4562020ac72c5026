"""PyTorch on the same network, minibatch and weights, as its users would write it for a CPU."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file
from torch import nn

from bench.ours import MOMENTUM, RATE, Steps, minibatch
from engine.graph import INPUT, Graph
from engine.models import MODELS
from layers.activations import GELU, ReLU6
from layers.add import Add
from layers.avg_pool import AvgPool
from layers.batch_norm import BatchNorm
from layers.concat import Concat
from layers.conv2d import Conv2d
from layers.depthwise_conv2d import DepthwiseConv2d
from layers.dropout import Dropout
from layers.flatten import Flatten
from layers.given import Given
from layers.global_avg_pool import GlobalAvgPool
from layers.layer import Layer, Shape
from layers.linear import Linear
from layers.max_pool import MaxPool
from layers.multiply import Multiply
from layers.precision import BF16, FP32
from layers.relu import ReLU
from layers.sigmoid import Sigmoid

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


class TorchSide:
    """A chain of modules in one memory format; the optimizer is PyTorch's fused SGD, its fastest."""

    def __init__(
        self,
        model: str,
        *,
        samples: int,
        threads: int,
        layout: str,
        weights: Path | None,
        arguments: Mapping[str, Any] | None = None,
        precision: str = FP32,
    ):
        """Make the network; with precision "bf16" its passes run under `torch.autocast`."""
        self._is_bf16 = precision == BF16
        torch.set_num_threads(threads)
        self._format = FORMATS[layout]
        self.graph = MODELS[model](**(arguments or {}))
        self.net = network(self.graph)
        if weights is not None:
            state = {name: torch.from_numpy(value) for name, value in load_file(weights).items()}
            self.net.load_state_dict(self.net.state_dict() | state)  # running statistics begin alike
        self.net.to(memory_format=self._format)
        x, labels = minibatch(self.graph, samples)
        self._x = self._placed(torch.from_numpy(x))
        self._labels = torch.from_numpy(labels.astype(np.int64))
        self._optimizer = torch.optim.SGD(self.net.parameters(), lr=RATE, momentum=MOMENTUM, fused=True)
        self._case: tuple[str, nn.Module, torch.Tensor, torch.Tensor] | None = None

    def _autocast(self) -> torch.autocast:
        """Return the context of a forward pass and a loss, in which PyTorch chooses what is bf16."""
        return torch.autocast("cpu", dtype=torch.bfloat16, enabled=self._is_bf16)

    def _placed(self, x: torch.Tensor) -> torch.Tensor:
        return x.contiguous(memory_format=self._format) if x.ndim == 4 else x

    def train(self, steps: int, *, dropout: bool = True) -> Steps:
        """Run whole steps: forward, loss, backward, update. The input already has its memory format."""
        done = Steps([], [])
        self.net.train()
        for module in self.net.modules():
            if isinstance(module, nn.Dropout):
                module.train(dropout)
        for _ in range(steps):
            start, worked = time.perf_counter(), time.process_time()
            self._optimizer.zero_grad(set_to_none=True)
            with self._autocast():
                loss = nn.functional.cross_entropy(self.net(self._x), self._labels)
            loss.backward()
            self._optimizer.step()
            done.losses.append(loss.item())
            done.seconds.append(time.perf_counter() - start)
            done.processor_seconds.append(time.process_time() - worked)
        return done

    def score(self, passes: int) -> Steps:
        """Run forward only, in inference mode."""
        done = Steps([], [])
        self.net.eval()
        with torch.inference_mode(), self._autocast():
            for _ in range(passes):
                start = time.perf_counter()
                self.net(self._x)
                done.seconds.append(time.perf_counter() - start)
        return done

    def layer(self, name: str, direction: str, calls: int) -> Steps:
        """Run one pass of one layer on noise; the gradients go through autograd, one of the two at a time."""
        if self._case is None or self._case[0] != name:
            self._case = (name, *self._layer_case(name))
        _, module, x, dy = self._case
        done = Steps([], [])
        parameters = list(module.parameters())
        if direction == "forward":
            with torch.no_grad(), self._autocast():
                for _ in range(calls):
                    done.seconds.append(_seconds(lambda: module(x)))
            return done
        of_data = direction == "backward_data"
        x.requires_grad_(of_data)
        for parameter in parameters:
            parameter.requires_grad_(not of_data)
        with self._autocast():
            y = module(x)
        wanted = [x] if of_data else parameters
        for _ in range(calls):
            done.seconds.append(_seconds(lambda: torch.autograd.grad(y, wanted, dy, retain_graph=True)))
        x.requires_grad_(False)
        for parameter in parameters:
            parameter.requires_grad_(True)
        return done

    def _layer_case(self, name: str) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
        (node,) = (node for node in self.graph if node.name == name)
        (shape,) = self.graph.input_shapes(node)
        module = _module(node.layer, shape, in_place=False)
        module.to(memory_format=self._format)
        x = self._placed(torch.randn(len(self._x), *shape))
        x = x.bfloat16() if self._is_bf16 else x
        with torch.no_grad(), self._autocast():
            dy = torch.randn_like(module(x))
        return module, x, dy


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def network(graph: Graph) -> nn.Module:
    """Translate a network; parameters and states have the names and layouts of our checkpoints."""
    return _Network(graph)


class _Network(nn.Module):
    """The layers in order, each a module of the node's name; a value is kept until its last reader."""

    def __init__(self, graph: Graph):
        super().__init__()
        self._calls: list[tuple[str, tuple[str, ...], list[str]]] = []
        for node in graph:
            in_place = len(graph.readers(node.inputs[0])) == 1
            self.add_module(node.name, _module(node.layer, *graph.input_shapes(node), in_place=in_place))
            dead = [value for value in dict.fromkeys(node.inputs) if graph.readers(value)[-1] is node]
            self._calls.append((node.name, node.inputs, dead))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values = {INPUT: x}
        del x
        for name, read, dead in self._calls:
            values[name] = self.get_submodule(name)(*(values[each] for each in read))
            for value in dead:
                del values[value]
        return values.popitem()[1]


class _Sum(nn.Module):
    def forward(self, first: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        for other in others:
            first = first + other
        return first


class _Join(nn.Module):
    def forward(self, *parts: torch.Tensor) -> torch.Tensor:
        return torch.cat(parts, dim=1)


class _GlobalMean(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))


class _Product(nn.Module):
    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.factor * x


def _module(layer: Layer, *shapes: Shape, in_place: bool = True) -> nn.Module:
    if type(layer) not in _COUNTERPARTS:
        raise ValueError(f"{layer}: has no counterpart here")
    if isinstance(layer, ReLU):
        return nn.ReLU(inplace=in_place)
    return _COUNTERPARTS[type(layer)](layer, shapes[0])


def _convolution(it: Conv2d | DepthwiseConv2d, x: Shape) -> nn.Module:
    top, left, bottom, right = it.pads
    out, groups = (it.out_channels, 1) if isinstance(it, Conv2d) else (x[0], x[0])
    found = nn.Conv2d(x[0], out, it.kernel, it.stride, (top, left), groups=groups, bias=it.bias)
    if (top, left) == (bottom, right):
        return found
    found.padding = (0, 0)
    found.register_forward_pre_hook(
        lambda _, given: (nn.functional.pad(given[0], (left, right, top, bottom)), *given[1:])
    )
    return found


def _normalisation(it: BatchNorm, x: Shape) -> nn.Module:
    kind = nn.BatchNorm2d if len(x) > 1 else nn.BatchNorm1d
    found = kind(x[0], it.epsilon, it.momentum)
    if not it.scaled:
        found.register_parameter("weight", None)
    return found


def _given(it: Given, x: Shape) -> nn.Module:
    return _module(it.layer, x).requires_grad_(it.trainable)


_COUNTERPARTS: dict[type[Layer], Callable[..., nn.Module]] = {
    Add: lambda _, __: _Sum(),
    AvgPool: lambda it, x: nn.AvgPool2d(it.window or x[1:], it.stride),
    BatchNorm: _normalisation,
    Concat: lambda _, __: _Join(),
    Conv2d: _convolution,
    DepthwiseConv2d: _convolution,
    Dropout: lambda it, _: nn.Dropout(it.probability),
    Flatten: lambda _, __: nn.Flatten(),
    GELU: lambda _, __: nn.GELU(),
    Given: _given,
    GlobalAvgPool: lambda _, __: _GlobalMean(),
    Linear: lambda it, x: nn.Linear(x[0], it.out_features, bias=it.bias),
    MaxPool: lambda it, _: nn.MaxPool2d(it.window, it.stride, it.padding, ceil_mode=it.ceil_mode),
    Multiply: lambda it, _: _Product(it.factor),
    ReLU: lambda _, __: nn.ReLU(),
    ReLU6: lambda _, __: nn.ReLU6(),
    Sigmoid: lambda _, __: nn.Sigmoid(),
}
