"""The reference of the layer inside one whose weights are given."""

from layers.given import Given
from layers.reference.problem import Array, Problem
from layers.reference.reference import Reference, reference_of


def forward(layer: Given, problem: Problem) -> list[Array]:
    """Return y."""
    return reference_of(layer.layer).forward(layer.layer, problem)


def backward_data(layer: Given, problem: Problem) -> list[Array]:
    """Return dx."""
    return reference_of(layer.layer).backward_data(layer.layer, problem)


def backward_weights(layer: Given, problem: Problem) -> dict[str, Array]:
    """Return the gradients, which nobody wants of a layer that is not trained."""
    return reference_of(layer.layer).backward_weights(layer.layer, problem)


REFERENCE = Reference(forward, backward_data, backward_weights)
