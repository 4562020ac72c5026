"""One row a layer and shape: every generic test of a layer runs on all rows."""

from dataclasses import dataclass

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
from layers.relu import ReLU
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
    Case(Conv2dReLU(Conv2d(17, 3, padding=1)), ((3, 9, 7),)),
    Case(Conv2dReLU(Conv2d(64, 3, padding=1)), ((64, 9, 10),)),  # Winograd
    Case(Conv2dReLUPool(Conv2d(32, 3, padding=1)), ((3, 10, 263),)),  # a first layer, chunks of a row
    Case(Conv2dReLUPool(Conv2d(5, 5, stride=2)), ((1, 23, 22),)),
    Case(Conv2dReLUPool(Conv2d(31, 3, padding=1)), ((17, 7, 9),)),
    Case(Conv2dReLU(Conv2d(33, 1)), ((17, 7, 9),)),
    Case(Conv2dReLUPool(Conv2d(33, 1, stride=2)), ((17, 7, 9),)),
    Case(Conv2dReLUPool(Conv2d(64, 3, padding=1)), ((64, 10, 13),)),  # Winograd, tiles cut by the edge
    Case(Conv2dReLUPool(Conv2d(64, 3, padding=1)), ((64, 9, 8),)),
    Case(Conv2dReLUPool(Conv2d(64, 5, padding=2)), ((96, 9, 11),)),  # F(2x2, 5x5)
    Case(Linear(1), ((1,),), samples=1),
    Case(Linear(31), ((17,),)),
    Case(Linear(10), ((33,),), samples=16),
    Case(Linear(67), ((130,),)),
    Case(Linear(128), ((64,),), samples=17),
    Case(Linear(200), ((300,),), samples=1),
    # Several panels of samples, chunks of outputs and blocks of features:
    Case(Linear(1100), ((250,),), samples=70),
    Case(Linear(40), ((1030,),), samples=33),
    Case(MaxPool(2, 2), ((17, 6, 8),)),
    Case(MaxPool(3, 2), ((3, 7, 7),)),
    Case(MaxPool(3, 1, 1), ((16, 7, 9),)),
    Case(MaxPool((3, 2), 2, 1), ((31, 8, 5),)),
    Case(MaxPool(2, 3), ((1, 5, 5),)),
    Case(MaxPool(16, 1), ((33, 16, 16),)),
    Case(AvgPool(2, 2), ((17, 6, 8),)),
    Case(AvgPool((3, 2), 2), ((3, 7, 7),)),
    Case(AvgPool(3, 1), ((16, 5, 5),)),
    Case(AvgPool(2, 3), ((1, 5, 5),)),
    Case(AvgPool(), ((33, 61, 7),)),
    Case(ReLU(), ((17, 5, 7),)),
    Case(ReLU(), ((100,),)),
    Case(Sigmoid(), ((17, 5, 7),)),
    Case(Sigmoid(), ((32, 3, 3),)),
    Case(Sigmoid(), ((100,),)),
    Case(Dropout(0.5), ((17, 5, 7),)),
    Case(Dropout(0.25), ((300,),)),
    Case(Dropout(0.0), ((20,),)),
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
