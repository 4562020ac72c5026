"""The bias of a layer that may have none: kernels always add one, and always make its gradient."""

from functools import cache

import numpy as np

from layers.kernels.simd import LANES
from layers.layer import Array, Buffers

UNUSED_GRADIENT = "unused_bias_gradient"
"""Name of the working memory for the gradient of a bias that the layer has not."""


def bias(at: Buffers) -> Array:
    """Return the bias, padded to whole vectors; zeros where the layer has none."""
    if "bias" in at.weights:
        return at.weights["bias"]
    y = at.y[0]
    return _zeros(y.shape[1] * LANES if y.ndim > 2 else y.shape[1])


def bias_gradient(at: Buffers) -> Array:
    """Return where the gradient of the bias goes."""
    return at.gradients["bias"] if "bias" in at.gradients else at.scratch[UNUSED_GRADIENT]  # type: ignore[return-value] # float32


@cache
def _zeros(features: int) -> Array:
    return np.zeros(features, np.float32)
