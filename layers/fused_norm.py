"""Batch normalisation and the elementwise layers behind it in one: the sum with a shortcut, ReLU or ReLU6.

They compute the same bits as the layers one by one, with fewer passes over memory. Models are written as
plain layers; `engine.graph.passes.fusion` puts these in their place.
"""

import math
from dataclasses import dataclass

from layers.activations import ReLU6
from layers.add import Add
from layers.batch_norm import BatchNorm
from layers.kernels.norm_pixels import ALONE, CLIPPED, NOTHING, RECTIFIED, Behind
from layers.layer import Array, Buffers, Layer, Shape
from layers.onnx_form import OnnxForm, chained
from layers.relu import ReLU
from layers.work import BACKWARD_WEIGHTS, FORWARD

_LAYERS: dict[str, Layer] = {"relu": ReLU(), "relu6": ReLU6()}
_KINDS = {"": NOTHING, "relu": RECTIFIED, "relu6": CLIPPED}


def activation_of(layer: Layer) -> str:
    """Return what a layer is called in `FusedBatchNorm.activation`; empty for all that can be none."""
    return next((name for name, each in _LAYERS.items() if each == layer), "")


@dataclass(frozen=True)
class FusedBatchNorm(BatchNorm):
    """y = activation(norm(x[0]) + x[1]).

    Parameters
    ----------
    adds : bool
        Whether there is a second input.
    activation : str
        "relu", "relu6" or "".
    rounds : bool
        y is rounded to bf16 by whoever calls: the gradient is that of the activation at this value.
    rectified : bool
        dy is the gradient before the activation: the layer that wrote it saw to that.
    """

    adds: bool = False
    activation: str = ""
    rounds: bool = False
    rectified: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.activation not in _KINDS:
            raise ValueError(f"activation: got {self.activation!r}; must be one of {', '.join(_KINDS)}")
        if self.rectified and not (self.adds and self.activation == "relu"):
            raise ValueError(f"{self}: rectified is for a sum behind which there is a ReLU")

    @property
    def reads_y(self) -> bool:  # type: ignore[override]
        """Whether y decides a gradient: without a sum it is made anew of x."""
        return self.adds and self.activation != "" and not self.rectified

    @property
    def in_place(self) -> bool:  # type: ignore[override]
        """Whether dx may lie over dy: not where dy is the gradient of what is added, too."""
        return not self.shared_gradients

    @property
    def shared_gradients(self) -> tuple[tuple[int, int], ...]:  # type: ignore[override]
        """The gradient of what is added, where that is dy."""
        return ((1, 0),) if self.adds and self.rectified else ()

    @property
    def _back(self) -> Behind:
        """What of it is to be undone in the backward passes."""
        return ALONE if self.rectified else self._behind

    @property
    def _behind(self) -> Behind:
        made_anew = self.activation != "" and not self.adds
        return Behind(int(self.adds), _KINDS[self.activation], int(self.rounds and made_anew))

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the shape of the input."""
        if len(inputs) != 1 + self.adds or len(set(inputs)) != 1:
            raise ValueError(f"{self}: inputs of one shape are wanted, got {', '.join(map(str, inputs))}")
        return super().output_shape(inputs[0])

    def onnx(self, *inputs: Shape) -> OnnxForm:
        """Return the forms of the layers one by one."""
        form = super().onnx(inputs[0])
        if self.adds:
            form = chained(form, Add().onnx(*inputs))
        if self.activation:
            form = chained(form, _LAYERS[self.activation].onnx(inputs[0]))
        return form

    def elementwise_floats(self, direction: str, *inputs: Shape) -> float:
        """Return the floats moved: those of the normalisation, the addend and what decides the gradient."""
        written = self.adds and not self.rectified  # the gradient of what is added
        more = {FORWARD: self.adds, BACKWARD_WEIGHTS: self.reads_y}.get(direction, written + self.reads_y)
        return super().elementwise_floats(direction, inputs[0]) + more * math.prod(inputs[0])

    def _addend(self, at: Buffers) -> Array | None:
        return at.x[1] if self.adds else None

    def _read_y(self, at: Buffers) -> Array | None:
        return at.y[0] if self.reads_y else None

    def _addend_slope(self, at: Buffers) -> Array | None:
        return at.dx[1] if self._back.adds else None
