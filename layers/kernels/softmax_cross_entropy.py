"""Softmax, its cross entropy with a label, and the gradient; one sample a task."""

from functools import lru_cache

import numpy as np
from numba import float32, float64, int32, int64, uint8

from layers.kernels.exponential import exp_nonpositive
from layers.kernels.jit import inline, kernel
from layers.kernels.logarithm import log
from layers.kernels.rows import copy_row, floats
from layers.kernels.threads import Threads

VECTORS = float32[:, :]


def forward_backward(
    threads: Threads,
    logits,
    labels,
    classes: int,
    scale: float,
    gradient,
    losses,
    correct,
    smoothing: float = 0.0,
    others=None,
    shares=None,
    weights=None,
) -> None:
    """Write loss, gradient and whether the label has the greatest logit, the first of equals.

    Sums run over the classes in order, in float64: no bit depends on N or on the SIMD width. A label
    of -1 marks an absent sample: all its results are zero.

    Parameters
    ----------
    logits, gradient : float32 [N, classes rounded up to LANES]
        May be the same. Gradient of ``scale * losses``; zero behind `classes`.
    labels : int32 [N]
    losses : float64 [N]
    correct : uint8 [N]
    smoothing
        Share of the label that is spread over all classes.
    others, shares : int32 [N], float64 [N]
        Other labels of samples, and the shares of the first ones; None: these are all.
    weights : float64 [classes]
        Of the classes in the loss; None: 1 each.
    """
    if others is None or shares is None:
        others, shares = labels, np.ones(len(labels))
    if weights is None:
        weights = np.ones(0)
    work = 16 * logits.size
    threads.run(
        _forward_backward(), len(labels), work,
        logits, labels, classes, scale, gradient, losses, correct, smoothing, others, shares,
        weights,
    )  # fmt: skip


@lru_cache(maxsize=1)
def _forward_backward():
    @kernel(
        int64, int64, int64, VECTORS, int32[:], int64, float64, VECTORS, float64[:], uint8[:], float64,
        int32[:], float64[:], float64[:],
    )  # fmt: skip
    def softmax_cross_entropy(
        worker, first, last, logits, labels, classes, scale, gradient, losses, correct, smoothing,
        others, shares, weights,
    ):  # fmt: skip
        for n in range(first, last):
            target = gradient.ctypes.data + n * gradient.strides[0]
            row = floats(target)
            label = int64(labels[n])
            losses[n], correct[n] = 0, 0
            if label >= 0:
                copy_row(target, logits.ctypes.data + n * logits.strides[0], classes)
                best = 0
                for k in range(classes):
                    best = k if row[k] > row[best] else best
                correct[n] = best == label
                wanted = label, int64(others[n]), shares[n], smoothing
                if len(weights) > 0:
                    losses[n] = weighted(row, classes, row[best], scale, wanted, weights)
                else:
                    losses[n] = unweighted(row, classes, row[best], scale, wanted)
            for k in range(classes if label >= 0 else 0, gradient.shape[1]):
                row[k] = float32(0)

    return softmax_cross_entropy


@inline
def exponentials(row, classes, greatest):
    """Replace logits by the exponentials of what they are below the greatest; return the sum of those."""
    for k in range(classes):
        row[k] = exp_nonpositive(row[k] - greatest)
    total = 0.0
    for k in range(classes):
        total += float64(row[k])
    return total


@inline
def unweighted(row, classes, greatest, scale, wanted):
    """Replace a row of logits by the gradient; return the loss."""
    label, other, share, smoothing = wanted
    chosen, second = row[label], row[other]
    below = 0.0  # how far all logits are below the greatest
    if smoothing > 0:
        for k in range(classes):
            below += float64(greatest) - float64(row[k])
    total = exponentials(row, classes, greatest)
    missing = (float64(row[label]) - total) / total  # the probability minus 1, without cancellation
    loss = log(total) - (float64(chosen) - float64(greatest))
    factor = float32(scale / total)
    for k in range(classes):
        row[k] *= factor
    row[label] = float32(missing * scale)
    if smoothing > 0:
        each = smoothing / classes
        loss += each * (below - classes * (float64(greatest) - float64(chosen)))
        for k in range(classes):
            row[k] -= float32(each * scale)
        row[label] = float32((missing + smoothing - each) * scale)
    if other != label:
        rest = (1 - share) * (1 - smoothing)
        loss += rest * (float64(chosen) - float64(second))
        row[label] += float32(rest * scale)
        row[other] -= float32(rest * scale)
    return loss


@inline
def weighted(row, classes, greatest, scale, wanted, weights):
    """Do the same where what is wanted of each class, and so its part of the loss, has a weight."""
    label, other, share, smoothing = wanted
    share = 1.0 if other == label else share
    one = (1 - smoothing) * share * weights[label]
    rest = (1 - smoothing) * (1 - share) * weights[other]
    each = smoothing / classes
    whole = one + rest  # all that is wanted, weighted
    loss = one * (float64(greatest) - float64(row[label])) + rest * (float64(greatest) - float64(row[other]))
    for k in range(classes):
        whole += each * weights[k]
        loss += each * weights[k] * (float64(greatest) - float64(row[k]))
    total = exponentials(row, classes, greatest)
    loss += whole * log(total)
    for k in range(classes):
        slope = whole * (float64(row[k]) / total) - each * weights[k]
        slope -= one if k == label else 0.0
        slope -= rest if k == other else 0.0
        row[k] = float32(slope * scale)
    return loss
