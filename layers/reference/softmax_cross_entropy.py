"""Softmax with cross entropy in float64; a label of -1 marks an absent sample."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Labels = NDArray[np.int32]


def mixed(one: Array, other: Array, shares: Array) -> Array:
    """Return losses, or gradients, of samples that are mixed: a share of one, the rest of the other."""
    part = shares.reshape(-1, *[1] * (one.ndim - 1))
    return part * one + (1 - part) * other


def forward(logits: Array, labels: Labels, smoothing: float = 0.0, weights: Array | None = None) -> Array:
    """Return the loss of each sample [N].

    Parameters
    ----------
    smoothing
        Share of the labels that is spread over all classes.
    weights : float64 [classes]
        Of the classes; None: 1 each.
    """
    wanted = _wanted(logits, labels, smoothing, weights)
    return np.where(labels >= 0, -(wanted * _log_softmax(logits)).sum(axis=1), 0)


def backward_data(
    logits: Array, labels: Labels, scale: float, smoothing: float = 0.0, weights: Array | None = None
) -> Array:
    """Return the gradient of scale * (sum of the losses)."""
    wanted = _wanted(logits, labels, smoothing, weights)
    slopes = np.exp(_log_softmax(logits)) * wanted.sum(axis=1, keepdims=True) - wanted
    return np.where(labels[:, None] >= 0, slopes, 0) * scale


def _wanted(logits: Array, labels: Labels, smoothing: float, weights: Array | None) -> Array:
    classes = logits.shape[1]
    one_hot = labels[:, None] == np.arange(classes)
    wanted: Array = (1 - smoothing) * one_hot + smoothing / classes
    return wanted if weights is None else wanted * weights


def _log_softmax(logits: Array) -> Array:
    shifted: Array = logits - logits.max(axis=1, keepdims=True)
    totals: Array = np.exp(shifted).sum(axis=1, keepdims=True)
    return shifted - np.log(totals)
