"""A layer such as a user may write: parameters, state and its reference in one file outside the package."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from layers import layout
from layers.kernels.simd import LANES
from layers.layer import Array, Buffers, Context, Layer, Parameter, Shape, State
from layers.onnx_form import OnnxForm, OnnxNode
from layers.reference import Problem, Reference, register


@dataclass(frozen=True)
class Scale(Layer):
    """y[n, c] = scale[c] * x[n, c]; outside training without the running mean of channel c."""

    reads_x = True
    featurewise = True

    def output_shape(self, *inputs: Shape) -> Shape:
        ((channels, height, width),) = inputs
        return channels, height, width

    def parameters(self, *inputs: Shape) -> dict[str, Parameter]:
        return {"scale": replace(layout.bias(inputs[0][0]), variance=1.0)}

    def state(self, *inputs: Shape) -> dict[str, State]:
        return {"mean": State(inputs[0][:1], initial=0.5)}

    def onnx(self, *inputs: Shape) -> OnnxForm:
        def by_channel(name: str) -> OnnxNode:
            return OnnxNode(
                "Unsqueeze", (name, "axes"), (f"{name}_by_channel",), constants={"axes": np.array([1, 2])}
            )

        scaled = OnnxNode("Mul", ("x0", "scale_by_channel"), ("scaled",))
        return by_channel("scale"), by_channel("mean"), scaled, OnnxNode("Sub", ("scaled", "mean_by_channel"))

    def leaf_values(self, *inputs: Shape) -> dict[str, Shape]:
        return {"mean": inputs[0][:1]}

    def update_state(
        self, state: dict[str, Array], leaf_values: Mapping[str, NDArray[np.float64]], step: int
    ) -> None:
        mean = _tree_sum(leaf_values["mean"]) / len(leaf_values["mean"])
        state["mean"] += (mean - state["mean"]) / (step + 1)

    def forward(self, at: Buffers, run: Context) -> None:
        (x,), (y,) = at.x, at.y
        y[...] = _by_channel(at.weights["scale"]) * x
        if run.training:
            leaves = y.reshape(at.leaves, -1, *y.shape[1:]).astype(np.float64)
            means = leaves.mean(axis=(1, 3, 4)).reshape(at.leaves, -1)
            at.leaf_values["mean"][...] = means[:, : at.shape[0]]
        else:
            mean = np.zeros_like(at.weights["scale"])
            mean[: at.shape[0]] = at.state["mean"]
            y -= _by_channel(mean)

    def backward_weights(self, at: Buffers, run: Context) -> None:
        (x,), (dy,) = at.x, at.dy
        products = (x * dy).reshape(at.leaves, -1, *x.shape[1:]).astype(np.float64)
        leaves = products.sum(axis=(1, 3, 4)).astype(np.float32)
        at.gradients["scale"][...] = _tree_sum(leaves).reshape(-1)

    def backward_data(self, at: Buffers, run: Context) -> None:
        (dy,), (dx,) = at.dy, at.dx
        dx[...] = _by_channel(at.weights["scale"]) * dy


def _by_channel(values: Array) -> Array:
    return values.reshape(-1, 1, 1, LANES)


def _tree_sum(leaves: NDArray[np.floating]) -> NDArray[np.floating]:
    while len(leaves) > 1:
        leaves = leaves[::2] + leaves[1::2]
    return leaves[0]


def _scaled(problem: Problem, values: NDArray[np.float64]) -> NDArray[np.float64]:
    return problem.parameters["scale"][:, None, None] * values


register(
    Scale,
    Reference(
        forward=lambda _, problem: [_scaled(problem, problem.inputs[0])],
        backward_data=lambda _, problem: [_scaled(problem, problem.dys[0])],
        backward_weights=lambda _, problem: {
            "scale": (problem.inputs[0] * problem.dys[0]).sum(axis=(0, 2, 3))
        },
        leaf_values=lambda _, problem: {"mean": _scaled(problem, problem.inputs[0]).mean(axis=(0, 2, 3))},
    ),
)
