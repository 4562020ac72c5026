"""Dropout."""

import math
from dataclasses import dataclass

from layers.kernels import add, dropout
from layers.layer import Array, Buffers, Context, Layer, Shape
from layers.onnx_form import OnnxForm, OnnxNode


@dataclass(frozen=True)
class Dropout(Layer):
    """y = x / (1 - probability) for elements kept, 0 for others; y = x outside training.

    Which elements are kept is a function of the run's seed and step, the sample's index in the data
    set, the node, and the element's place in the sample (Srivastava et al. 2014).

    Parameters
    ----------
    probability : float
        Probability of an element to be dropped.
    """

    probability: float

    in_place = True
    featurewise = True

    def __post_init__(self) -> None:
        if not 0 <= self.probability < 1:
            raise ValueError(f"{self}: probability must be at least 0 and less than 1")

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the shape of the input."""
        (shape,) = inputs
        return shape

    def onnx(self, *inputs: Shape) -> OnnxForm:
        """Return Identity: outside training nothing is dropped."""
        return (OnnxNode("Identity"),)

    def forward(self, at: Buffers, run: Context) -> None:
        """Write y."""
        self._apply(at.x[0], at.y[0], at, run)

    def backward_data(self, at: Buffers, run: Context) -> None:
        """Write dx."""
        self._apply(at.dy[0], at.dx[0], at, run)

    def _apply(self, source: Array, target: Array, at: Buffers, run: Context) -> None:
        if run.training:
            assert len(at.samples) == len(source)
            first = at.first * math.prod(at.shape[1:])  # the place of a channel's first pixel
            words = run.seed, run.step, at.key, first
            dropout.apply(run.threads, source, target, at.samples, self.probability, *words)
        else:
            add.add_all(run.threads, (source,), target)
