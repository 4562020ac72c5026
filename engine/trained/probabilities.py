"""From logits to probabilities, and to the classes that are most probable."""

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.floating]
"""[N, classes]: logits or probabilities; more is likelier."""


def softmax(logits: Scores) -> NDArray[np.float64]:
    """Return probabilities, float64 [N, classes]; NaN in a row whose logits are not finite.

    A row depends on nothing but its own logits.
    """
    shifted = logits.astype(np.float64)
    with np.errstate(invalid="ignore"):  # infinity less infinity
        shifted -= shifted.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    probabilities: NDArray[np.float64] = exponentials / exponentials.sum(axis=1, keepdims=True)
    return probabilities


def best(scores: Scores, count: int) -> NDArray[np.int64]:
    """Return the classes of the highest scores, int64 [N, count], the best first; of equals the first one."""
    most = scores.shape[1]
    if count < most // 2:  # a whole sort of a thousand classes takes as long as a small network
        chosen = np.sort(np.argpartition(-scores, count - 1, axis=1)[:, :count], axis=1)
        order = np.argsort(-np.take_along_axis(scores, chosen, axis=1), axis=1, kind="stable")
        return np.take_along_axis(chosen, order, axis=1)
    return np.argsort(-scores, axis=1, kind="stable")[:, : min(count, most)]


def place_of(scores: Scores, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many classes go before the label's, int64 [N]: those with more, and the first of equals.

    A label below 0 is taken for 0. Before a score that is no number go all.
    """
    rows, chosen = np.arange(len(labels)), np.maximum(labels, 0)
    own = scores[rows, chosen][:, np.newaxis]
    is_before = np.arange(scores.shape[1]) < chosen[:, np.newaxis]
    places: NDArray[np.int64] = (~(scores <= own) | (is_before & (scores == own))).sum(axis=1)
    return places
