"""What a network that a user has built says of itself: names, sizes and numbers that can be."""

import math
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from numbers import Integral, Real
from typing import Any

from engine.config.errors import UserError
from engine.config.wording import is_name, shortened
from engine.graph.graph import Graph
from layers.convolution.geometry import Padding

_RESERVED = "fork ", "exchange "
_MOST = 2**31 - 1
"""Of a size: more fits into no memory, and what is computed of it into 64 bits."""


def check_network(network: Graph, where: str) -> None:
    """Look at what a type says to Python alone: a function may have been given anything, and passes it on.

    Parameters
    ----------
    where
        Names the network in errors.

    Raises
    ------
    UserError
        A name that is no text, a size that is no whole number, or another number that is none or not finite.
        Fields of other types, which users' own layers may have, are the layer's business.
    """
    if not network.input_shape or not all(_is_size(size) and size > 0 for size in network.input_shape):
        raise UserError(
            f"{where}: reads samples of shape {network.input_shape!r}; must be sizes, each from 1 to {_MOST}"
        )
    for node in network:
        if not is_name(node.name):
            raise UserError(
                f"{where}: a layer is called {node.name!r}; must be text, without control characters"
            )
        if node.name.startswith(_RESERVED):
            raise UserError(
                f"{where}: a layer is called {shortened(repr(node.name))}; names that begin with "
                f"{' or '.join(map(repr, _RESERVED))} are those of layers that are put between others"
            )
        described: Any = node.layer
        for each in fields(described) if is_dataclass(described) else ():
            can_be, wanted = _KINDS.get(each.type, (None, ""))
            value = getattr(described, each.name)
            if can_be is not None and not can_be(value):
                raise UserError(
                    f"{where}: {node.name}: {each.name} is {shortened(repr(value))}; must be {wanted}"
                )
            if each.name == "gain" and _is_number(value) and value < 0:
                raise UserError(f"{where}: {node.name}: gain is {value!r}; must be at least 0")


def _is_size(value: Any) -> bool:
    return type(value) is not bool and isinstance(value, Integral) and abs(int(value)) <= _MOST


def _is_number(value: Any) -> bool:
    if type(value) is bool or not isinstance(value, Real):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number of hundreds of digits
        return False


def _is_pair(value: Any) -> bool:
    return _is_size(value) or (type(value) is tuple and len(value) == 2 and all(map(_is_size, value)))


def _is_padding(value: Any) -> bool:
    return _is_pair(value) or (
        type(value) is tuple
        and len(value) == 2
        and all(type(side) is tuple and _is_pair(side) for side in value)
    )


_SIZE = f"a whole number, at most {_MOST}"
_PAIR = f"{_SIZE}, or two of them"
_KINDS: dict[Any, tuple[Callable[[Any], bool], str]] = {
    bool: (lambda value: type(value) is bool, "True or False"),
    Padding: (_is_padding, f"{_PAIR}, or two pairs"),
    int: (_is_size, _SIZE),
    float: (_is_number, "a number that is finite"),
    int | tuple[int, int]: (_is_pair, _PAIR),
    int | tuple[int, int] | None: (lambda value: value is None or _is_pair(value), _PAIR),
}
"""By the type of a field: what it can be, and how that is said."""
