"""What a reference consists of, and where a layer's is found."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from layers.layer import Layer
from layers.reference.problem import Array, Problem


def _nothing(_layer: Layer, _problem: Problem) -> dict[str, Array]:
    return {}


@dataclass(frozen=True)
class Reference:
    """The passes over one kind of layer as functions ``(layer, problem)`` in float64."""

    forward: Callable[[Any, Problem], list[Array]]
    """Returns each y."""
    backward_data: Callable[[Any, Problem], list[Array]]
    """Returns each dx."""
    backward_weights: Callable[[Any, Problem], dict[str, Array]] = _nothing
    """Returns the gradients of the parameters by name, in standard layout."""
    leaf_values: Callable[[Any, Problem], dict[str, Array]] = _nothing
    """Returns what forward notes by name, the problem being one leaf."""
    is_product: bool = False
    """y is bias plus the products of x and weight over the loops of `Layer.extents`, and nothing else: some
    of its elements can be computed without the others."""


_REGISTERED: dict[type[Layer], Reference] = {}


def register(kind: type[Layer], reference: Reference) -> None:
    """Tell the reference of a class of layers that lives outside the package ``layers``."""
    _REGISTERED[kind] = reference


def reference_of(layer: Layer) -> Reference:
    """Return the reference of a layer: the one registered for its class, or the one of its module's name.

    A class without either has that of the class it is derived from.

    Raises
    ------
    ValueError
        None of these exists.
    """
    for kind in type(layer).__mro__:
        if issubclass(kind, Layer) and kind in _REGISTERED:
            return _REGISTERED[kind]
        package, _, path = kind.__module__.partition(".")
        name = f"layers.reference.{path.partition('.')[0]}"
        if package == "layers" and path and find_spec(name) is not None:
            reference: Reference = import_module(name).REFERENCE
            return reference
    kind = type(layer)
    raise ValueError(
        f"{kind.__name__} of {kind.__module__} has no float64 reference; give it one with "
        f"layers.reference.register({kind.__name__}, Reference(...))"
    )
