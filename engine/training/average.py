"""Exponential moving averages of weights and state."""

from layers.kernels import steps
from layers.layer import Array

_WARM_UP = 10  # much as TensorFlow's `ExponentialMovingAverage` with `num_updates`


def share_of(decay: float, step: int) -> float:
    """Return the share of the way to the new weights that averages go after a step, counted from 0.

    It is 1 - decay, but more in the first steps, ``10 / (step + 10)``: the first average is the first new
    weights, and averages over a tenth of the steps follow, until that is as long as the decay says. So the
    weights of the first steps are soon forgotten in short runs too.
    """
    return max(1 - decay, _WARM_UP / (step + _WARM_UP))


def move(averages: Array, values: Array, share: float) -> None:
    """Overwrite averages, going a share of the way to the values (contiguous float32)."""
    if share == 1:  # exactly: the sum of average and difference would be rounded
        averages[...] = values
    else:
        steps.approach(averages.reshape(-1), values.reshape(-1), share=share)
