"""The bias of a layer that may have none: kernels always add one, and always make its gradient."""

from functools import cache

import numpy as np

from layers import layout
from layers.kernels.simd import LANES
from layers.layer import Array, Buffers, Parameter, Scratch

_UNUSED_GRADIENT = "unused_bias_gradient"
"""Name of the working memory for the gradient of a bias that the layer has not."""


def weight_and_bias(weight: Parameter, features: int, *, biased: bool) -> dict[str, Parameter]:
    """Return the parameters of a layer with so many output features, which has a bias or not."""
    return {"weight": weight} | ({"bias": layout.bias(features)} if biased else {})


def unused_gradient(features: int, *, biased: bool) -> dict[str, Scratch]:
    """Return the working memory that a layer without a bias wants for its gradient."""
    return {} if biased else {_UNUSED_GRADIENT: Scratch(layout.bias(features).blocked)}


def onnx_inputs(*, biased: bool) -> tuple[str, ...]:
    """Return the names of what the layer's operator reads."""
    return ("x0", "weight", "bias") if biased else ("x0", "weight")


def bias(at: Buffers) -> Array:
    """Return the bias, padded to whole vectors; zeros where the layer has none."""
    if "bias" in at.weights:
        return at.weights["bias"]
    y = at.y[0]
    return _zeros(y.shape[1] * LANES if y.ndim > 2 else y.shape[1])


def bias_gradient(at: Buffers) -> Array:
    """Return where the gradient of the bias goes."""
    return at.gradients["bias"] if "bias" in at.gradients else at.scratch[_UNUSED_GRADIENT]  # type: ignore[return-value] # float32


@cache
def _zeros(features: int) -> Array:
    return np.zeros(features, np.float32)
