"""Labels of a whole data set, and what follows from how many samples each class has."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from engine.config.errors import UserError
from engine.config.recipe import BALANCED
from engine.config.wording import counted
from engine.data.dataset import Dataset, digest

Asked = str | Sequence[float]
"""A field of a recipe: weights of the classes, "balanced", or another text, which asks for none."""


def labels_of(data: Dataset, field: str) -> NDArray[np.int64]:
    """Return the labels of all samples, int64 [N].

    Parameters
    ----------
    field
        Of the recipe, that asks for them.

    Raises
    ------
    UserError
        The data set does not say them, or something else: it may be a user's own.
    """
    found = data.all_labels()
    if found is None:
        raise UserError(
            f"{field}: {data.name} does not say the labels of its samples, which are counted; its class must "
            "have all_labels"
        )
    labels = np.asarray(found)
    if labels.shape != (len(data),) or labels.dtype.kind not in "iu":
        got = f"{labels.dtype} {list(labels.shape)}"
        raise UserError(f"{data.name}: all_labels returned {got}; must be {len(data)} whole numbers")
    if not 0 <= int(labels.min()) <= int(labels.max()) < data.classes:
        raise UserError(
            f"{data.name}: all_labels run from {labels.min()} to {labels.max()}; must be from 0 to "
            f"{data.classes - 1}"
        )
    return labels.astype(np.int64)


def exact_weights(asked: Asked, data: Dataset, counts: Sequence[int], field: str) -> list[Fraction]:
    """Return a weight for each class that has a mean of 1 over the samples, without any rounding.

    "balanced" gives each class that has samples the same part of all weight; one without any has 1.

    Raises
    ------
    UserError
        Not one weight for each class, or none above 0 for a class that has samples.
    """
    if asked == BALANCED:
        present = sum(1 for count in counts if count)
        return [Fraction(len(data), present * count) if count else Fraction(1) for count in counts]
    assert not isinstance(asked, str)
    if len(asked) != data.classes:
        raise UserError(
            f"{field}: got {counted(len(asked), 'weight')}; must be one for each of {data.classes} classes"
        )
    weights = [Fraction(weight) for weight in asked]
    total = sum(weight * count for weight, count in zip(weights, counts, strict=True))
    if not total:
        raise UserError(f"{field}: got {list(asked)}; must be above 0 for a class that has training samples")
    return [weight * len(data) / total for weight in weights]


def loss_weights(asked: Asked, data: Dataset) -> tuple[float, ...] | None:
    """Return the weights of classes in the loss, from `Recipe.class_weights`; None where none are asked for.

    Their mean over the training set is 1, so a minibatch's sum is divided by its samples as without weights.
    PyTorch divides by the sum of the minibatch's weights, which has this mean; but then the gradient of a
    sample would depend on what else is in the minibatch, and ranks would need a message before the backward
    pass.

    Raises
    ------
    UserError
        See `labels_of` and `exact_weights`.
    """
    if isinstance(asked, str) and asked != BALANCED:
        return None
    counts = class_counts(labels_of(data, "class_weights"), data.classes)
    return tuple(float(weight) for weight in exact_weights(asked, data, counts, "class_weights"))


def labels_digest(data: Dataset, *asked: Asked) -> str:
    """Return a hash of the labels, where weights of classes follow from them; else an empty text.

    A user's own data set may say them apart from its samples, and its fingerprint not see them.
    """
    if all(isinstance(each, str) and each != BALANCED for each in asked):
        return ""
    return digest(labels_of(data, "data"))


def class_counts(labels: NDArray[np.int64], classes: int) -> list[int]:
    """Count the samples of each class."""
    counts: list[int] = np.bincount(labels, minlength=classes).tolist()
    return counts
