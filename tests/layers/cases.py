"""One row a layer and shape: every generic test of a layer runs on all rows."""

from dataclasses import dataclass

from layers.activations import GELU, HardSigmoid, HardSwish, ReLU6, SiLU
from layers.adaptive_avg_pool import AdaptiveAvgPool
from layers.add import Add
from layers.avg_pool import AvgPool
from layers.batch_norm import BatchNorm
from layers.concat import Concat
from layers.conv2d import Conv2d
from layers.depthwise_conv2d import DepthwiseConv2d
from layers.dropout import Dropout
from layers.flatten import Flatten
from layers.fork import Fork
from layers.fused_conv2d import Conv2dReLU, Conv2dReLUPool
from layers.fused_norm import FusedBatchNorm
from layers.global_avg_pool import GlobalAvgPool
from layers.group_norm import GroupNorm
from layers.grouped_conv2d import GroupedConv2d
from layers.layer import Layer, Shape
from layers.layer_norm import LayerNorm
from layers.linear import Linear
from layers.max_pool import MaxPool
from layers.multiply import Multiply
from layers.relu import ReLU
from layers.scale import Scale
from layers.sigmoid import Sigmoid


@dataclass(frozen=True)
class Case:
    """A layer, the shapes of its inputs, and the samples of a minibatch; the reference is found by itself."""

    layer: Layer
    shapes: tuple[Shape, ...]
    samples: int = 3

    def __str__(self) -> str:
        shapes = " ".join("x".join(map(str, shape)) for shape in self.shapes)
        return f"{self.layer} on {self.samples} of {shapes}"


CASES = [
    Case(Conv2d(1, 1), ((1, 1, 1),), samples=1),
    Case(Conv2d(17, 3, padding=1), ((3, 9, 7),)),
    Case(Conv2d(31, (3, 1), padding=(1, 0)), ((17, 5, 13),)),
    Case(Conv2d(17, 5, padding=2), ((31, 6, 6),), samples=16),
    Case(Conv2d(31, (1, 5)), ((1, 5, 7),)),
    Case(Conv2d(16, 11, stride=4), ((3, 23, 23),)),  # the first layer of OverFeat
    Case(Conv2d(33, 11, stride=4, padding=5), ((3, 20, 18),)),
    Case(Conv2d(32, (7, 3), padding=(3, 1)), ((16, 61, 7),), samples=1),
    Case(Conv2d(3, (1, 5), padding=(0, 2)), ((17, 7, 61),), samples=1),
    Case(Conv2d(64, 3, stride=2, padding=1), ((31, 8, 8),), samples=16),
    Case(Conv2d(64, 1, stride=2), ((32, 8, 9),)),
    Case(Conv2d(40, 1), ((70, 5, 5),), samples=5),  # tiles across the ends of images
    Case(Conv2d(7, 1, stride=3, feature_leaves=2), ((33, 7, 5),)),
    Case(Conv2d(64, 1, feature_leaves=2), ((16, 3, 7),)),
    Case(Conv2d(128, 3, padding=1), ((64, 3, 3),)),  # the widest tile of backward_weights
    Case(Conv2d(17, 2, stride=3), ((3, 6, 7),)),  # some inputs are not read at all
    Case(Conv2d(1, (4, 7), stride=3, padding=5), ((1, 10, 10),)),  # padding beyond the kernel
    Case(Conv2d(31, 3, padding=1), ((17, 1, 1),)),
    Case(Conv2d(31, 1, stride=2), ((17, 1, 1),)),  # rows shorter than the stride
    Case(Conv2d(5, 3, stride=4, padding=1), ((2, 5, 2),)),
    Case(Conv2d(96, 3, padding=1, feature_leaves=2), ((64, 9, 7),)),
    Case(Conv2d(64, 3, stride=2, padding=1, feature_leaves=4), ((17, 9, 6),)),
    Case(Conv2d(17, 3, padding=1, bias=False), ((3, 9, 7),)),  # a first layer
    Case(Conv2d(40, 1, bias=False), ((70, 5, 5),), samples=5),
    Case(Conv2d(40, 5, stride=2, padding=2, bias=False), ((33, 9, 8),)),
    Case(Conv2d(64, 3, padding=1, bias=False), ((64, 10, 13),)),  # Winograd
    Case(Conv2d(33, 3, stride=2, padding=((0, 1), (0, 1))), ((3, 12, 10),)),  # as TensorFlow's "same"
    Case(Conv2d(33, 3, stride=2, padding=((0, 1), (0, 1))), ((17, 12, 10),)),
    Case(Conv2d(64, 3, padding=((2, 0), (0, 1))), ((64, 10, 13),)),  # Winograd
    Case(Conv2d(31, 5, padding=((1, 2), (4, 0))), ((40, 6, 9),)),
    Case(Conv2d(17, 1, padding=((0, 1), (0, 2))), ((33, 4, 5),)),  # pixels behind the image
    Case(Conv2d(17, 1, stride=2, padding=((0, 1), (0, 0))), ((33, 4, 5),)),
    Case(Conv2d(17, 3, padding=2, dilation=2), ((3, 9, 7),)),
    Case(Conv2d(64, 3, padding=3, dilation=3), ((64, 9, 16),)),
    Case(Conv2d(33, (3, 2), 2, 3, dilation=3), ((17, 11, 12),), samples=16),
    Case(Conv2d(31, 3, 2, 4, dilation=4, feature_leaves=2), ((17, 9, 14),)),  # odd inputs are not read
    Case(Conv2dReLUPool(Conv2d(32, 3, padding=2, dilation=2)), ((16, 7, 9),)),
    Case(Conv2dReLU(Conv2d(17, 3, padding=1)), ((3, 9, 7),)),
    Case(Conv2dReLUPool(Conv2d(64, 3, padding=1, bias=False)), ((64, 10, 13),)),
    Case(Conv2dReLUPool(Conv2d(17, 3, padding=((0, 2), (1, 0)), bias=False)), ((3, 9, 11),)),
    Case(Conv2dReLU(Conv2d(64, 3, padding=1)), ((64, 9, 10),)),  # Winograd
    Case(Conv2dReLUPool(Conv2d(32, 3, padding=1)), ((3, 10, 263),)),  # a first layer, chunks of a row
    Case(Conv2dReLUPool(Conv2d(5, 5, stride=2)), ((1, 23, 22),)),
    Case(Conv2dReLUPool(Conv2d(31, 3, padding=1)), ((17, 7, 9),)),
    Case(Conv2dReLU(Conv2d(33, 1)), ((17, 7, 9),)),
    Case(Conv2dReLUPool(Conv2d(33, 1, stride=2)), ((17, 7, 9),)),
    Case(Conv2dReLUPool(Conv2d(64, 3, padding=1)), ((64, 10, 13),)),  # Winograd, tiles cut by the edge
    Case(Conv2dReLUPool(Conv2d(64, 3, padding=1)), ((64, 9, 8),)),
    Case(Conv2dReLUPool(Conv2d(64, 5, padding=2)), ((96, 9, 11),)),  # F(2x2, 5x5)
    Case(DepthwiseConv2d(1), ((1, 1, 1),), samples=1),
    Case(DepthwiseConv2d(3, padding=1), ((33, 9, 17),)),
    Case(DepthwiseConv2d(3, 2, 1), ((17, 8, 9),), samples=16),
    Case(DepthwiseConv2d(5, padding=2, bias=False), ((16, 6, 7),)),
    Case(DepthwiseConv2d(5, 2, ((1, 2), (1, 2))), ((3, 12, 31),)),
    Case(DepthwiseConv2d((7, 9), padding=(3, 4)), ((17, 10, 4),)),  # rows of the kernel in several groups
    Case(DepthwiseConv2d((3, 2), 3, padding=2), ((31, 7, 8),)),
    Case(DepthwiseConv2d(2, 3), ((5, 6, 7),)),  # some inputs are not read at all
    Case(DepthwiseConv2d(3, 2, padding=5), ((1, 4, 3),)),  # padding beyond the kernel
    Case(DepthwiseConv2d(3, padding=1), ((17, 1, 1),)),
    Case(DepthwiseConv2d(1, 4), ((17, 1, 3),)),  # rows shorter than the stride
    Case(DepthwiseConv2d(3, padding=2, dilation=2), ((17, 7, 9),)),
    Case(DepthwiseConv2d((3, 4), 2, 3, dilation=3), ((16, 11, 12),)),
    Case(DepthwiseConv2d(3, 2, 4, dilation=4), ((3, 9, 14),)),  # odd inputs are not read
    Case(GroupedConv2d(32, 3, 2, padding=1), ((32, 9, 7),)),
    Case(GroupedConv2d(64, 1, 4), ((128, 5, 6),)),
    Case(GroupedConv2d(96, (3, 2), 2, 2, (1, 0), bias=False), ((32, 8, 9),)),
    Case(GroupedConv2d(128, 3, 2, padding=1), ((128, 9, 10),)),  # Winograd
    Case(GroupedConv2d(32, 3, 8, 2, 1), ((32, 8, 7),), samples=16),  # four groups fill a vector
    Case(GroupedConv2d(64, 3, 32, padding=1), ((32, 6, 5),)),
    Case(GroupedConv2d(16, 3, 4, padding=1, bias=False), ((24, 6, 5),)),  # all four groups at once
    Case(GroupedConv2d(9, 3, 3), ((6, 7, 5),)),
    Case(GroupedConv2d(32, 3, 2, 2, 2, dilation=2), ((32, 9, 7),)),
    Case(GroupedConv2d(5, 3, 5, padding=1), ((5, 4, 4),)),
    Case(Linear(1), ((1,),), samples=1),
    Case(Linear(31), ((17,),)),
    Case(Linear(10), ((33,),), samples=16),
    Case(Linear(67), ((130,),)),
    Case(Linear(128), ((64,),), samples=17),
    Case(Linear(200), ((300,),), samples=1),
    Case(Linear(67, bias=False), ((130,),)),
    # Several panels of samples, chunks of outputs and blocks of features:
    Case(Linear(1100), ((250,),), samples=70),
    Case(Linear(40), ((1030,),), samples=33),
    Case(MaxPool(2, 2), ((17, 6, 8),)),
    Case(MaxPool(3, 2), ((3, 7, 7),)),
    Case(MaxPool(3, 1, 1), ((16, 7, 9),)),
    Case(MaxPool((3, 2), 2, 1), ((31, 8, 5),)),
    Case(MaxPool(2, 3), ((1, 5, 5),)),
    Case(MaxPool(3, 2, 1), ((33, 12, 13),)),  # of residual networks
    Case(MaxPool(3, 2, ceil_mode=True), ((17, 8, 9),)),
    Case(MaxPool((2, 3), 3, 1, ceil_mode=True), ((16, 6, 4),)),
    Case(MaxPool(2, 3, ceil_mode=True), ((3, 6, 6),)),  # no window begins behind the image
    Case(MaxPool(16, 1), ((33, 16, 16),)),
    Case(AvgPool(2, 2), ((17, 6, 8),)),
    Case(AvgPool((3, 2), 2), ((3, 7, 7),)),
    Case(AvgPool(3, 1), ((16, 5, 5),)),
    Case(AvgPool(2, 3), ((1, 5, 5),)),
    Case(AvgPool(), ((33, 61, 7),)),
    Case(AdaptiveAvgPool(), ((17, 7, 5),)),
    Case(AdaptiveAvgPool((2, 4)), ((16, 6, 8),)),
    Case(AdaptiveAvgPool((5, 3)), ((33, 7, 8),)),  # windows overlap
    Case(AdaptiveAvgPool((4, 7)), ((3, 3, 7),)),  # more rows than there are
    Case(GlobalAvgPool(), ((33, 61, 7),)),
    Case(GlobalAvgPool(), ((1, 1, 1),), samples=1),
    Case(Scale(), ((17, 5, 7), (17,))),
    Case(Scale(), ((32, 9, 1), (32, 1, 1))),
    Case(Multiply(-0.375), ((17, 5, 7),)),
    Case(Multiply(1 / 9), ((300,),)),
    Case(ReLU(), ((17, 5, 7),)),
    Case(ReLU(), ((100,),)),
    Case(Sigmoid(), ((17, 5, 7),)),
    Case(Sigmoid(), ((32, 3, 3),)),
    Case(Sigmoid(), ((100,),)),
    Case(GELU(), ((17, 5, 7),)),
    Case(GELU(), ((100,),)),
    Case(SiLU(), ((17, 5, 7),)),
    Case(SiLU(), ((100,),)),
    Case(HardSwish(), ((17, 5, 7),)),
    Case(HardSwish(), ((300,),)),
    Case(HardSigmoid(), ((17, 5, 7),)),
    Case(HardSigmoid(), ((300,),)),
    Case(ReLU6(), ((17, 5, 7),)),
    Case(ReLU6(), ((100,),)),
    Case(Dropout(0.5), ((17, 5, 7),)),
    Case(Dropout(0.25), ((300,),)),
    Case(Dropout(0.0), ((20,),)),
    Case(FusedBatchNorm(activation="relu"), ((17, 5, 7),)),
    Case(FusedBatchNorm(activation="relu6"), ((33, 3, 40),)),
    Case(FusedBatchNorm(activation="relu"), ((100,),), samples=8),
    Case(FusedBatchNorm(adds=True), ((17, 5, 7), (17, 5, 7))),
    Case(FusedBatchNorm(adds=True, activation="relu"), ((31, 9, 8), (31, 9, 8)), samples=5),
    Case(FusedBatchNorm(adds=True, activation="relu6", scaled=False), ((16, 2, 2), (16, 2, 2))),
    Case(BatchNorm(), ((17, 5, 7),)),
    Case(BatchNorm(epsilon=1e-3), ((32, 3, 3),), samples=40),  # chunks of several samples, one cut short
    Case(BatchNorm(scaled=False), ((5, 21, 17),)),  # chunks of some rows, one cut short
    Case(BatchNorm(), ((3, 2, 300),)),  # rows longer than a chunk
    Case(BatchNorm(), ((100,),), samples=5),
    Case(BatchNorm(scaled=False), ((7,),), samples=300),
    Case(GroupNorm(1), ((17, 5, 7),)),
    Case(GroupNorm(4), ((40, 3, 3),)),  # groups that blocks of channels do not hold
    Case(GroupNorm(24, epsilon=1e-3), ((48, 9, 20),), samples=2),
    Case(GroupNorm(2), ((6,),), samples=5),
    Case(LayerNorm(), ((100,),), samples=5),
    Case(LayerNorm(epsilon=1e-3), ((32,),)),
    Case(Flatten(), ((17, 5, 7),)),
    Case(Flatten(), ((3, 1, 1),)),
    Case(Flatten(), ((64, 2, 3),)),
    Case(Add(), ((17, 5, 7), (17, 5, 7))),
    Case(Add(), ((100,), (100,), (100,))),
    Case(Fork(2), ((17, 5, 7),)),
    Case(Fork(3), ((100,),)),
    Case(Concat(), ((16, 3, 5), (32, 3, 5))),
    Case(Concat(), ((17, 3, 5), (3, 3, 5), (31, 3, 5), (1, 3, 5))),
    Case(Concat(), ((5,), (40,), (3,))),
]
