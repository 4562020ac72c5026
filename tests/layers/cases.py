"""One row a layer and shape: every generic test of a layer runs on all rows."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from layers.add import Add
from layers.avg_pool import AvgPool
from layers.concat import Concat
from layers.conv2d import Conv2d
from layers.dropout import Dropout
from layers.flatten import Flatten
from layers.fork import Fork
from layers.fused_conv2d import Conv2dReLU, Conv2dReLUPool
from layers.layer import Layer, Shape
from layers.linear import Linear
from layers.max_pool import MaxPool
from layers.reference import add, avg_pool, concat, conv2d, dropout, flatten, linear, max_pool, relu, sigmoid
from layers.relu import ReLU
from layers.sigmoid import Sigmoid
from tests.layers.harness import KEY, SEED, STEP, Problem

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Reference:
    """A layer's float64 functions, all of them of a problem."""

    forward: Callable[[Problem], list[Array]]
    backward_data: Callable[[Problem], list[Array]]
    backward_weights: Callable[[Problem], dict[str, Array]] = lambda _: {}


@dataclass(frozen=True)
class Case:
    """A layer, the shapes of its inputs, and what it should compute."""

    layer: Layer
    shapes: tuple[Shape, ...]
    reference: Reference
    samples: int = 3

    def __str__(self) -> str:
        shapes = " ".join("x".join(map(str, shape)) for shape in self.shapes)
        return f"{self.layer} on {self.samples} of {shapes}"


def _conv(
    shape: Shape,
    out_channels: int,
    kernel: int | tuple[int, int],
    stride: int = 1,
    padding: int | tuple[int, int] = 0,
    samples: int = 3,
    feature_leaves: int = 1,
) -> Case:
    layer = Conv2d(out_channels, kernel, stride, padding, feature_leaves=feature_leaves)
    edges = (padding, padding) if isinstance(padding, int) else padding

    def weights(p: Problem) -> dict[str, Array]:
        weight = p.parameters["weight"]
        return dict(
            zip(
                ("weight", "bias"),
                conv2d.backward_weights(p.inputs[0], weight, p.dys[0], stride, edges),
                strict=True,
            )
        )

    reference = Reference(
        lambda p: [conv2d.forward(p.inputs[0], p.parameters["weight"], p.parameters["bias"], stride, edges)],
        lambda p: [conv2d.backward_data(p.inputs[0], p.parameters["weight"], p.dys[0], stride, edges)],
        weights,
    )
    return Case(layer, (shape,), reference, samples)


def _conv_relu(
    shape: Shape, out_channels: int, kernel: int, stride: int = 1, padding: int = 0, *, pool: bool = False
) -> Case:
    conv = Conv2d(out_channels, kernel, stride, padding)
    edges = (padding, padding)

    def before(p: Problem) -> Array:
        return conv2d.forward(p.inputs[0], p.parameters["weight"], p.parameters["bias"], stride, edges)

    def forward(p: Problem) -> list[Array]:
        y = relu.forward(before(p))
        return [max_pool.forward(y, (2, 2), 2, 0) if pool else y]

    def gradient(p: Problem) -> Array:
        y, dy = before(p), p.dys[0]
        if pool:
            dy = max_pool.backward_data(relu.forward(y), dy, (2, 2), 2, 0)
        return relu.backward_data(y, dy)

    def weights(p: Problem) -> dict[str, Array]:
        found = conv2d.backward_weights(p.inputs[0], p.parameters["weight"], gradient(p), stride, edges)
        return dict(zip(("weight", "bias"), found, strict=True))

    reference = Reference(
        forward,
        lambda p: [conv2d.backward_data(p.inputs[0], p.parameters["weight"], gradient(p), stride, edges)],
        weights,
    )
    return Case(Conv2dReLUPool(conv) if pool else Conv2dReLU(conv), (shape,), reference)


def _linear(features: int, out_features: int, samples: int = 3) -> Case:
    reference = Reference(
        lambda p: [linear.forward(p.inputs[0], p.parameters["weight"], p.parameters["bias"])],
        lambda p: [linear.backward_data(p.parameters["weight"], p.dys[0])],
        lambda p: dict(zip(("weight", "bias"), linear.backward_weights(p.inputs[0], p.dys[0]), strict=True)),
    )
    return Case(Linear(out_features), ((features,),), reference, samples)


def _max_pool(shape: Shape, window: int | tuple[int, int], stride: int, padding: int = 0) -> Case:
    size = (window, window) if isinstance(window, int) else window
    reference = Reference(
        lambda p: [max_pool.forward(p.inputs[0], size, stride, padding)],
        lambda p: [max_pool.backward_data(p.inputs[0], p.dys[0], size, stride, padding)],
    )
    return Case(MaxPool(window, stride, padding), (shape,), reference)


def _avg_pool(shape: Shape, window: int | tuple[int, int] | None = None, stride: int = 1) -> Case:
    size = (window, window) if isinstance(window, int) else window or (shape[1], shape[2])
    reference = Reference(
        lambda p: [avg_pool.forward(p.inputs[0], size, stride)],
        lambda p: [avg_pool.backward_data(p.inputs[0], p.dys[0], size, stride)],
    )
    return Case(AvgPool(window, stride), (shape,), reference)


def _relu(shape: Shape) -> Case:
    reference = Reference(
        lambda p: [relu.forward(p.inputs[0])],
        lambda p: [relu.backward_data(p.inputs[0], p.dys[0])],
    )
    return Case(ReLU(), (shape,), reference)


def _sigmoid(shape: Shape) -> Case:
    reference = Reference(
        lambda p: [sigmoid.forward(p.inputs[0])],
        lambda p: [sigmoid.backward_data(p.inputs[0], p.dys[0])],
    )
    return Case(Sigmoid(), (shape,), reference)


def _dropout(shape: Shape, probability: float) -> Case:
    def masks(p: Problem) -> NDArray[np.bool_]:
        size = int(np.prod(shape))
        kept = [dropout.mask(size, probability, SEED, STEP, int(sample), KEY) for sample in p.samples]
        return np.stack(kept).reshape(-1, *shape)

    reference = Reference(
        lambda p: [dropout.forward(p.inputs[0], masks(p), probability)],
        lambda p: [dropout.backward_data(p.dys[0], masks(p), probability)],
    )
    return Case(Dropout(probability), (shape,), reference)


def _flatten(shape: Shape) -> Case:
    reference = Reference(
        lambda p: [flatten.forward(p.inputs[0])],
        lambda p: [flatten.backward_data(p.inputs[0], p.dys[0])],
    )
    return Case(Flatten(), (shape,), reference)


def _add(shape: Shape, inputs: int) -> Case:
    reference = Reference(
        lambda p: [add.forward(p.inputs)],
        lambda p: add.backward_data(p.inputs, p.dys[0]),
    )
    return Case(Add(), (shape,) * inputs, reference)


def _fork(shape: Shape, outputs: int) -> Case:
    reference = Reference(
        lambda p: add.backward_data(p.dys, p.inputs[0]),
        lambda p: [add.forward(p.dys)],
    )
    return Case(Fork(outputs), (shape,), reference)


def _concat(*shapes: Shape) -> Case:
    reference = Reference(
        lambda p: [concat.forward(p.inputs)],
        lambda p: concat.backward_data(p.inputs, p.dys[0]),
    )
    return Case(Concat(), shapes, reference)


CASES = [
    _conv((1, 1, 1), 1, 1, samples=1),
    _conv((3, 9, 7), 17, 3, padding=1),
    _conv((17, 5, 13), 31, (3, 1), padding=(1, 0)),
    _conv((31, 6, 6), 17, 5, padding=2, samples=16),
    _conv((1, 5, 7), 31, (1, 5)),
    _conv((3, 23, 23), 16, 11, stride=4),  # the first layer of OverFeat
    _conv((3, 20, 18), 33, 11, stride=4, padding=5),
    _conv((16, 61, 7), 32, (7, 3), padding=(3, 1), samples=1),
    _conv((17, 7, 61), 3, (1, 5), padding=(0, 2), samples=1),
    _conv((31, 8, 8), 64, 3, stride=2, padding=1, samples=16),
    _conv((32, 8, 9), 64, 1, stride=2),
    _conv((64, 3, 3), 128, 3, padding=1),  # the widest tile of backward_weights
    _conv((3, 6, 7), 17, 2, stride=3),  # some inputs are not read at all
    _conv((1, 10, 10), 1, (4, 7), stride=3, padding=5),  # padding beyond the kernel
    _conv((17, 1, 1), 31, 3, padding=1),
    _conv((17, 1, 1), 31, 1, stride=2),  # rows shorter than the stride
    _conv((2, 5, 2), 5, 3, stride=4, padding=1),
    _conv((64, 9, 7), 96, 3, padding=1, feature_leaves=2),
    _conv((17, 9, 6), 64, 3, stride=2, padding=1, feature_leaves=4),
    _conv_relu((3, 9, 7), 17, 3, padding=1),
    _conv_relu((64, 9, 10), 64, 3, padding=1),  # Winograd
    _conv_relu((3, 10, 135), 32, 3, padding=1, pool=True),  # a first layer, chunks of a row
    _conv_relu((1, 23, 22), 5, 5, stride=2, pool=True),
    _conv_relu((17, 7, 9), 31, 3, padding=1, pool=True),
    _conv_relu((64, 10, 13), 64, 3, padding=1, pool=True),  # Winograd, tiles cut by the edge
    _conv_relu((64, 9, 8), 64, 3, padding=1, pool=True),
    _conv_relu((96, 9, 11), 64, 5, padding=2, pool=True),  # F(2x2, 5x5)
    _linear(1, 1, samples=1),
    _linear(17, 31),
    _linear(33, 10, samples=16),
    _linear(130, 67),
    _linear(64, 128, samples=17),
    _linear(300, 200, samples=1),
    _linear(250, 1100, samples=70),  # several panels of samples, chunks of outputs and blocks of features
    _linear(1030, 40, samples=33),
    _max_pool((17, 6, 8), 2, 2),
    _max_pool((3, 7, 7), 3, 2),
    _max_pool((16, 7, 9), 3, 1, 1),
    _max_pool((31, 8, 5), (3, 2), 2, 1),
    _max_pool((1, 5, 5), 2, 3),
    _max_pool((33, 16, 16), 16, 1),
    _avg_pool((17, 6, 8), 2, 2),
    _avg_pool((3, 7, 7), (3, 2), 2),
    _avg_pool((16, 5, 5), 3, 1),
    _avg_pool((1, 5, 5), 2, 3),
    _avg_pool((33, 61, 7)),
    _relu((17, 5, 7)),
    _relu((100,)),
    _sigmoid((17, 5, 7)),
    _sigmoid((32, 3, 3)),
    _sigmoid((100,)),
    _dropout((17, 5, 7), 0.5),
    _dropout((300,), 0.25),
    _dropout((20,), 0.0),
    _flatten((17, 5, 7)),
    _flatten((3, 1, 1)),
    _flatten((64, 2, 3)),
    _add((17, 5, 7), 2),
    _add((100,), 3),
    _fork((17, 5, 7), 2),
    _fork((100,), 3),
    _concat((16, 3, 5), (32, 3, 5)),
    _concat((17, 3, 5), (3, 3, 5), (31, 3, 5), (1, 3, 5)),
    _concat((5,), (40,), (3,)),
]
