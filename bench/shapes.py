"""Named problems, "vgg_a:conv3_2": one layer on one shape; shared by tests and benchmarks.

Every layer of the engine's large networks, the convolutions of AlexNet, GoogLeNet and ResNet-50, depthwise
and grouped ones, what stands between convolutions, and matrix products and convolutions of odd shapes as
DeepBench collected them from speech and vision.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import lru_cache

from engine.graph import INPUT
from engine.models import MODELS
from layers.activations import GELU, HardSigmoid, HardSwish, ReLU6, SiLU
from layers.batch_norm import BatchNorm
from layers.conv2d import Conv2d
from layers.depthwise_conv2d import DepthwiseConv2d
from layers.global_avg_pool import GlobalAvgPool
from layers.grouped_conv2d import GroupedConv2d
from layers.layer import Layer, Shape
from layers.linear import Linear
from layers.max_pool import MaxPool
from layers.precision import BF16
from layers.products import unit_of_process
from layers.scale import Scale
from layers.work import BACKWARD_DATA, BACKWARD_WEIGHTS, FORWARD

PASSES = (FORWARD, BACKWARD_DATA, BACKWARD_WEIGHTS)
"""Passes in the order of results; a training step runs backward_weights before backward_data."""

NETWORKS = {"vgg_a": 32, "overfeat_fast": 64, "cd_dnn": 1024}
"""Minibatch of each network that is measured: one host's part in a cluster."""


@dataclass(frozen=True)
class Problem:
    """A layer to measure: with the shapes of one sample of each input, and a minibatch."""

    name: str
    layer: Layer
    inputs: tuple[Shape, ...]
    minibatch: int
    first: bool = False
    """Whether it reads the network's input, so that nobody wants its backward_data."""

    @property
    def output(self) -> Shape:
        """Shape of one sample of the output."""
        return self.layer.output_shape(*self.inputs)

    def at(self, minibatch: int) -> "Problem":
        """Return the problem at another minibatch."""
        return replace(self, minibatch=minibatch)

    def with_convolution(self, algorithm: str) -> "Problem":
        """Return the problem with the algorithm of a convolution set; other layers are unchanged."""
        if not isinstance(self.layer, (Conv2d, GroupedConv2d)):
            return self
        return replace(self, layer=replace(self.layer, algorithm=algorithm))

    def with_precision(self, precision: str) -> "Problem":
        """Return the problem with the precision of a product set; other layers are unchanged."""
        if not isinstance(self.layer, (Conv2d, Linear)):
            return self
        unit = unit_of_process() if precision == BF16 else self.layer.unit
        return replace(self, layer=replace(self.layer, precision=precision, unit=unit))

    @property
    def is_bf16(self) -> bool:
        """Whether its operands hold values of bf16."""
        return isinstance(self.layer, (Conv2d, Linear)) and self.layer.precision == BF16

    def passes(self) -> tuple[str, ...]:
        """Return the passes that a training step runs."""
        trains = bool(self.layer.parameters(*self.inputs))
        wanted = {FORWARD: True, BACKWARD_DATA: not self.first, BACKWARD_WEIGHTS: trains}
        return tuple(name for name in PASSES if wanted[name])

    def flops(self) -> int:
        """Return the FLOP of any one pass by the direct algorithm."""
        return self.minibatch * self.layer.flops(*self.inputs)

    def parameter_count(self) -> int:
        """Return the number of trainable values."""
        return sum(math.prod(each.shape) for each in self.layer.parameters(*self.inputs).values())

    def __str__(self) -> str:
        shapes = " ".join("x".join(map(str, shape)) for shape in self.inputs)
        return f"{self.name}: {self.layer} on {self.minibatch} of {shapes}"


@lru_cache(maxsize=1)
def problems() -> dict[str, Problem]:
    """Return all problems by name."""
    found = [
        *_networks(),
        *_airbench94(),
        *_alexnet(),
        *_googlenet(),
        *_resnet50(),
        *_gemms(),
        *_convolutions(),
    ]
    found += [*_pointwise(), *_first_layers(), *_wide(), *_odd(), *_depthwise(), *_grouped(), *_between()]
    named = {problem.name: problem for problem in found}
    assert len(named) == len(found)
    return named


def select(filters: Sequence[str]) -> list[Problem]:
    """Return the problems whose names contain a filter, or match one that has a ``*`` or ``?``.

    Raises
    ------
    ValueError
        If a filter selects nothing.
    """
    chosen: dict[str, Problem] = {}
    for text in filters or ("*",):
        pattern = text if any(sign in text for sign in "*?[") else f"*{text}*"
        matches = {name: problem for name, problem in problems().items() if fnmatchcase(name, pattern)}
        if not matches:
            raise ValueError(f"filter: no problem is called like {text!r}; --list shows all names")
        chosen |= matches
    return [problem for name, problem in problems().items() if name in chosen]


def _networks() -> Iterator[Problem]:
    for model, minibatch in NETWORKS.items():
        graph = MODELS[model]()
        for node in graph:
            first = INPUT in node.inputs
            yield Problem(f"{model}:{node.name}", node.layer, graph.input_shapes(node), minibatch, first)


def _conv(
    name: str, shape: Shape, out_channels: int, kernel: int | tuple[int, int], stride: int = 1,
    padding: int | tuple[int, int] = 0, *, minibatch: int = 32, first: bool = False,
) -> Problem:  # fmt: skip
    return Problem(name, Conv2d(out_channels, kernel, stride, padding), (shape,), minibatch, first)


def _airbench94() -> Iterator[Problem]:
    """Yield the 3x3 convolutions for CIFAR-10, at its minibatch."""
    for name, size, channels, out in (
        ("conv1_1", 31, 24, 64),
        ("conv1_2", 15, 64, 64),
        ("conv2_1", 15, 64, 256),
        ("conv2_2", 7, 256, 256),
        ("conv3_2", 3, 256, 256),
    ):
        yield _conv(f"airbench94:{name}", (channels, size, size), out, 3, 1, 1, minibatch=1024)


def _alexnet() -> Iterator[Problem]:
    """Krizhevsky et al. 2012, without the groups of the two-card version."""
    yield _conv("alexnet:conv1", (3, 227, 227), 96, 11, 4, first=True)
    yield _conv("alexnet:conv2", (96, 27, 27), 256, 5, 1, 2)
    yield _conv("alexnet:conv3", (256, 13, 13), 384, 3, 1, 1)
    yield _conv("alexnet:conv4", (384, 13, 13), 384, 3, 1, 1)
    yield _conv("alexnet:conv5", (384, 13, 13), 256, 3, 1, 1)


_INCEPTIONS = (  # image, input; 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool projection
    ("3a", 28, 192, 64, 96, 128, 16, 32, 32),
    ("3b", 28, 256, 128, 128, 192, 32, 96, 64),
    ("4a", 14, 480, 192, 96, 208, 16, 48, 64),
    ("4b", 14, 512, 160, 112, 224, 24, 64, 64),
    ("4c", 14, 512, 128, 128, 256, 24, 64, 64),
    ("4d", 14, 512, 112, 144, 288, 32, 64, 64),
    ("4e", 14, 528, 256, 160, 320, 32, 128, 128),
    ("5a", 7, 832, 256, 160, 320, 32, 128, 128),
    ("5b", 7, 832, 384, 192, 384, 48, 128, 128),
)


def _googlenet() -> Iterator[Problem]:
    """Szegedy et al. 2015 (arXiv:1409.4842, table 1)."""
    yield _conv("googlenet:conv1", (3, 224, 224), 64, 7, 2, 3, first=True)
    yield _conv("googlenet:conv2_reduce", (64, 56, 56), 64, 1)
    yield _conv("googlenet:conv2", (64, 56, 56), 192, 3, 1, 1)
    for name, size, channels, one, reduce3, three, reduce5, five, projected in _INCEPTIONS:
        image = (channels, size, size)
        yield _conv(f"googlenet:{name}_1x1", image, one, 1)
        yield _conv(f"googlenet:{name}_3x3_reduce", image, reduce3, 1)
        yield _conv(f"googlenet:{name}_3x3", (reduce3, size, size), three, 3, 1, 1)
        yield _conv(f"googlenet:{name}_5x5_reduce", image, reduce5, 1)
        yield _conv(f"googlenet:{name}_5x5", (reduce5, size, size), five, 5, 1, 2)
        yield _conv(f"googlenet:{name}_pool", image, projected, 1)


def _resnet50() -> Iterator[Problem]:
    """He et al. 2016 (arXiv:1512.03385, table 1), each different layer once; stride in the first 1x1."""
    yield _conv("resnet50:conv1", (3, 224, 224), 64, 7, 2, 3, first=True)
    yield Problem("resnet50:norm1", BatchNorm(), ((64, 112, 112),), 32)
    channels, size = 64, 56
    for stage, width in enumerate((64, 128, 256, 512), start=2):
        stride = 1 if stage == 2 else 2
        image, out = (channels, size, size), size // stride
        yield _conv(f"resnet50:conv{stage}_shortcut", image, 4 * width, 1, stride)
        yield _conv(f"resnet50:conv{stage}_first", image, width, 1, stride)
        yield _conv(f"resnet50:conv{stage}_3x3", (width, out, out), width, 3, 1, 1)
        yield _conv(f"resnet50:conv{stage}_expand", (width, out, out), 4 * width, 1)
        yield _conv(f"resnet50:conv{stage}_reduce", (4 * width, out, out), width, 1)
        yield Problem(f"resnet50:norm{stage}", BatchNorm(), ((width, out, out),), 32)
        yield Problem(f"resnet50:norm{stage}_expand", BatchNorm(), ((4 * width, out, out),), 32)
        channels, size = 4 * width, out


def _gemms() -> Iterator[Problem]:
    """Matrix products as fully connected layers: outputs x minibatch x inputs."""
    sizes = (
        (2048, 2048, 2048), (1760, 16, 1760), (1760, 64, 1760), (1760, 7000, 1760), (2560, 32, 2560),
        (4096, 1, 4096), (4096, 128, 4096), (35, 700, 2048), (5124, 700, 2048), (3072, 128, 1024),
        (7680, 64, 2560), (512, 8, 100000), (1024, 700, 512), (257, 257, 257), (64, 4096, 64),
    )  # fmt: skip
    for outputs, minibatch, inputs in sizes:
        yield Problem(f"gemm:{outputs}x{minibatch}x{inputs}", Linear(outputs), ((inputs,),), minibatch)


def _convolutions() -> Iterator[Problem]:
    """Convolutions of speech, text and odd channels; named by input, output channels and kernel."""
    rows = (  # input, output channels, kernel, stride, padding, minibatch
        ((1, 161, 700), 32, (20, 5), 2, 0, 4),
        ((32, 79, 341), 32, (10, 5), 2, 0, 4),
        ((1, 48, 480), 16, 3, 1, 1, 16),
        ((16, 24, 240), 32, 3, 1, 1, 16),
        ((32, 12, 120), 64, 3, 1, 1, 16),
        ((64, 6, 60), 128, 3, 1, 1, 16),
        ((3, 108, 108), 64, 3, 2, 1, 8),
        ((64, 54, 54), 64, 3, 1, 1, 8),
        ((128, 27, 27), 128, 3, 1, 1, 8),
        ((256, 7, 7), 512, 3, 1, 1, 16),
        ((192, 28, 28), 32, 5, 1, 2, 16),
        ((512, 14, 14), 48, 5, 1, 2, 16),
        ((832, 7, 7), 128, 5, 1, 2, 16),
        ((64, 56, 56), 128, 3, 2, 1, 16),
        ((17, 31, 61), 31, (7, 3), 1, (3, 1), 16),
        ((64, 1, 512), 64, (1, 9), 1, (0, 4), 16),
        ((512, 4, 4), 512, 3, 1, 1, 1),
    )
    for shape, out_channels, kernel, stride, padding, minibatch in rows:
        taps = f"{kernel}x{kernel}" if isinstance(kernel, int) else f"{kernel[0]}x{kernel[1]}"
        name = f"conv:{'x'.join(map(str, shape))}-{out_channels}-{taps}{f'/{stride}' * (stride > 1)}"
        first = shape[0] <= 3
        yield _conv(name, shape, out_channels, kernel, stride, padding, minibatch=minibatch, first=first)


def _named(kind: str, shape: Shape, out_channels: int, kernel: int | tuple[int, int], stride: int = 1,
    padding: int | tuple[int, int] = 0, *, minibatch: int, first: bool = False,
) -> Problem:  # fmt: skip
    taps = f"{kernel}x{kernel}" if isinstance(kernel, int) else f"{kernel[0]}x{kernel[1]}"
    ending = f"{f'/{stride}' * (stride > 1)}-n{minibatch}"
    name = f"{kind}:{'x'.join(map(str, shape))}-{out_channels}-{taps}{ending}"
    return _conv(name, shape, out_channels, kernel, stride, padding, minibatch=minibatch, first=first)


def _pointwise() -> Iterator[Problem]:
    """Kernels of 1x1 as residual networks have them: 64 to 2,048 channels, maps of 7 to 112, some strided."""
    rows = (  # input channels, rows and columns of the image, output channels, stride
        (64, 112, 64, 1), (64, 56, 256, 1), (256, 56, 64, 1), (128, 28, 512, 1), (512, 28, 128, 1),
        (256, 14, 1024, 1), (1024, 14, 256, 1), (512, 7, 2048, 1), (2048, 7, 512, 1), (64, 112, 128, 2),
        (256, 56, 128, 2), (256, 56, 512, 2), (512, 28, 256, 2), (512, 28, 1024, 2), (1024, 14, 512, 2),
        (1024, 14, 2048, 2),
    )  # fmt: skip
    for minibatch in (8, 16):
        for channels, size, out_channels, stride in rows:
            shape = (channels, size, size)
            yield _named("pointwise", shape, out_channels, 1, stride, minibatch=minibatch)


def _first_layers() -> Iterator[Problem]:
    """First layers of 1 to 4 channels: vision, digits, games and speech."""
    rows = (  # input, output channels, kernel, stride, padding, minibatch
        ((3, 224, 224), 64, 3, 1, 1, 8),
        ((3, 224, 224), 64, 7, 2, 3, 8),
        ((3, 224, 224), 32, 3, 2, 1, 16),
        ((3, 231, 231), 96, 11, 4, 0, 8),
        ((3, 108, 108), 64, 3, 2, 1, 8),
        ((3, 32, 32), 32, 5, 1, 2, 64),
        ((1, 28, 28), 32, 5, 1, 2, 64),
        ((1, 256, 256), 32, 3, 1, 1, 4),
        ((1, 48, 480), 16, 3, 1, 1, 16),
        ((2, 64, 64), 48, 5, 2, 2, 16),
        ((4, 84, 84), 32, 8, 4, 0, 32),
        ((1, 80, 300), 64, (10, 5), 2, 0, 8),
        ((1, 161, 700), 32, (20, 5), 2, 0, 4),
    )
    for shape, out_channels, kernel, stride, padding, minibatch in rows:
        yield _named("first", shape, out_channels, kernel, stride, padding, minibatch=minibatch, first=True)


def _wide() -> Iterator[Problem]:
    """Strided 5x5 with many channels on small, wide maps, as behind the first layers of speech."""
    rows = (  # input, output channels, minibatch
        ((32, 80, 340), 32, 4), ((64, 24, 240), 128, 8), ((128, 12, 120), 128, 16), ((128, 12, 120), 256, 16),
        ((256, 6, 60), 256, 16), ((512, 4, 40), 512, 16),
    )  # fmt: skip
    for shape, out_channels, minibatch in rows:
        yield _named("wide", shape, out_channels, 5, 2, 2, minibatch=minibatch)


def _odd() -> Iterator[Problem]:
    """Convolutions of odd shapes: speech, text, tails of channels and columns, small maps."""
    rows = (  # input, output channels, kernel, stride, padding, minibatch
        ((40, 1, 900), 200, (1, 11), 2, (0, 5), 8),  # speech in time
        ((200, 1, 450), 200, (1, 13), 1, (0, 6), 8),
        ((32, 79, 341), 32, (10, 5), 2, 0, 4),
        ((64, 20, 150), 96, (3, 3), 1, 1, 8),
        ((300, 1, 60), 100, (1, 3), 1, 0, 64),  # text
        ((300, 1, 60), 100, (1, 5), 1, 0, 64),
        ((64, 1, 512), 64, (1, 9), 1, (0, 4), 16),
        ((70, 1, 1014), 256, (1, 7), 1, 0, 8),
        ((17, 31, 61), 31, (7, 3), 1, (3, 1), 16),  # tails
        ((50, 19, 23), 70, 3, 1, 1, 16),
        ((50, 19, 23), 70, 3, 2, 1, 16),
        ((33, 45, 45), 65, 4, 2, 1, 16),
        ((20, 12, 12), 50, 5, 1, 0, 64),
        ((100, 13, 13), 36, 1, 1, 0, 32),
        ((24, 56, 57), 40, 2, 2, 0, 16),
        ((48, 27, 27), 128, 5, 1, 2, 16),
        ((256, 4, 4), 256, 3, 1, 1, 32),  # small maps
        ((512, 2, 2), 512, 2, 1, 0, 32),
        ((96, 6, 6), 80, 3, 1, 0, 64),
        ((512, 7, 7), 126, 3, 2, 1, 16),
        ((128, 5, 5), 256, 3, 2, 0, 64),
    )
    for shape, out_channels, kernel, stride, padding, minibatch in rows:
        yield _named("odd", shape, out_channels, kernel, stride, padding, minibatch=minibatch)


def _depthwise() -> Iterator[Problem]:
    """Depthwise convolutions of MobileNet-V2 (3x3) and EfficientNet-Lite0 (5x5)."""
    rows = (  # channels, rows and columns of the image, kernel, stride
        (32, 112, 3, 1), (96, 112, 3, 2), (144, 56, 3, 1), (144, 56, 3, 2), (192, 28, 3, 1), (192, 28, 3, 2),
        (384, 14, 3, 1), (576, 14, 3, 1), (576, 14, 3, 2), (960, 7, 3, 1), (144, 56, 5, 2), (240, 28, 5, 1),
        (480, 14, 5, 1), (672, 14, 5, 2), (1152, 7, 5, 1),
    )  # fmt: skip
    for channels, size, kernel, stride in rows:
        layer = DepthwiseConv2d(kernel, stride, kernel // 2)
        name = f"depthwise:{channels}x{size}x{size}-{kernel}x{kernel}{f'/{stride}' * (stride > 1)}"
        yield Problem(name, layer, ((channels, size, size),), 8)


def _grouped() -> Iterator[Problem]:
    """3x3 of ResNeXt-50 32x4d (Xie et al. 2017, arXiv:1611.05431, table 1), and AlexNet's of two groups."""
    rows = (
        (128, 56, 128, 32),
        (256, 28, 256, 32),
        (512, 14, 512, 32),
        (1024, 7, 1024, 32),
        (384, 13, 384, 2),
    )
    for channels, size, out_channels, groups in rows:
        name = f"grouped:{channels}x{size}x{size}-{out_channels}-3x3-g{groups}"
        yield Problem(name, GroupedConv2d(out_channels, 3, groups, padding=1), ((channels, size, size),), 8)


def _between() -> Iterator[Problem]:
    """Layers that stand between convolutions: pooling, squeeze and excitation, activations."""
    large, small = (64, 112, 112), (480, 14, 14)
    yield Problem("between:max_pool-3x3/2", MaxPool(3, 2, 1), (large,), 8)
    yield Problem("between:max_pool-3x3", MaxPool(3, 1, 1), (small,), 8)
    yield Problem("between:global_avg_pool", GlobalAvgPool(), (small,), 32)
    yield Problem("between:scale", Scale(), (small, small[:1]), 32)
    for layer in (GELU(), SiLU(), HardSwish(), HardSigmoid(), ReLU6()):
        yield Problem(f"between:{type(layer).__name__.lower()}", layer, ((64, 56, 56),), 8)
