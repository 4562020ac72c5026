"""Softmax with cross entropy in float64; a label of -1 marks an absent sample."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Labels = NDArray[np.int32]


def forward(logits: Array, labels: Labels) -> Array:
    """Return the loss of each sample [N]."""
    chosen = np.take_along_axis(_log_softmax(logits), np.maximum(labels, 0)[:, None], axis=1)[:, 0]
    return np.where(labels >= 0, -chosen, 0)


def backward_data(logits: Array, labels: Labels, scale: float) -> Array:
    """Return the gradient of scale * (sum of the losses)."""
    one_hot = labels[:, None] == np.arange(logits.shape[1])
    return np.where(labels[:, None] >= 0, np.exp(_log_softmax(logits)) - one_hot, 0) * scale


def _log_softmax(logits: Array) -> Array:
    shifted: Array = logits - logits.max(axis=1, keepdims=True)
    totals: Array = np.exp(shifted).sum(axis=1, keepdims=True)
    return shifted - np.log(totals)
