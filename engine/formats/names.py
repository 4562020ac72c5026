"""Names of tensors between networks: "conv1_1.weight" here may be "features.0.weight" there.

A table names a module for each of our nodes with parameters, or a tensor for one of our tensors, as TOML:
``conv1_1 = "features.0"``.
"""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from engine.config.errors import UserError
from engine.config.files import read_bytes, reading
from engine.config.paths import expand
from engine.config.toml_fields import shipped_names
from engine.config.wording import did_you_mean, one_of, shortened
from engine.graph import Graph
from layers.layer import Shape

Shapes = Mapping[str, Shape]
"""Shapes of tensors by name, in their order."""

_FOLDER = "formats/names_of"


@dataclass(frozen=True)
class Names:
    """Their name for each of a network's tensors."""

    source: str
    """Where they are from, in words."""
    theirs: Mapping[str, str]


def tensor_shapes(network: Graph) -> dict[str, Shape]:
    """Return the shapes of a network's parameters and states by name, in the order of its nodes."""
    shapes: dict[str, Shape] = {}
    for node in network:
        inputs = network.input_shapes(node)
        for held in (node.layer.parameters(*inputs), node.layer.state(*inputs)):
            shapes |= {f"{node.name}.{name}": each.shape for name, each in held.items()}
    return shapes


def own_names(ours: Shapes) -> Names:
    """Return the network's own names."""
    return Names("the network's own names", {name: name for name in ours})


def shipped() -> list[str]:
    """Return the tables that come with the engine: "torchvision:vgg11"."""
    return [name.replace("-", ":", 1) for name in shipped_names(_FOLDER)]


def read_names(text: str, ours: Shapes) -> Names:
    """Return the names of a shipped table, or of a TOML file.

    Raises
    ------
    UserError
        There is no such table, it cannot be read, or does not name all tensors of this network.
    """
    source, table = text, _read(text)
    unknown = [key for key in table if key not in ours and not any(_node(name) == key for name in ours)]
    if unknown:
        nodes = dict.fromkeys(map(_node, ours))
        hint = did_you_mean(unknown[0], nodes)
        raise UserError(
            f"names: {source} names {shortened(unknown[0])}, which the network has not{hint}; {one_of(nodes)}"
        )
    theirs = {}
    for name in ours:
        node, _, leaf = name.rpartition(".")
        if name not in table and node not in table:
            raise UserError(f"names: {source} has no name for {node}; must name all that has weights")
        theirs[name] = table[name] if name in table else f"{table[node]}.{leaf}"
    return Names(source, _once(theirs, source))


def names_by_order(ours: Shapes, theirs: Shapes, source: str, *, ordered: bool) -> Names:
    """Return the names of modules that have the same tensors in the same order.

    Parameters
    ----------
    source
        Names their file in errors.
    ordered
        Their order is that of the network; else only shapes that occur once tell which is which.

    Raises
    ------
    UserError
        The numbers or shapes of modules differ, or it is not clear which is which.
    """
    mine, others = _modules(ours), _modules(theirs)
    if len(mine) != len(others):
        raise UserError(
            f"names: {source} has {len(others)} modules with tensors; must be the {len(mine)} of the network"
        )
    if ordered and list(mine.values()) == list(others.values()):
        pairs = dict(zip(mine, others, strict=True))
    else:
        pairs = dict(_by_shape(mine, others, source))
    found = {name: f"{pairs[node]}.{leaf}" for name in ours for node, leaf in [_halves(name)]}
    return Names(f"{'order and shape' if ordered else 'shape'} in {source}", found)


def fitting_names(ours: Shapes, theirs: Shapes, source: str, *, ordered: bool) -> Names:
    """Return the names that fit a file: the network's own, a shipped table's, or by order and shape.

    Raises
    ------
    UserError
        None of them fits.
    """
    if all(name in theirs for name in ours):
        return own_names(ours)
    for table in shipped():
        try:
            names = read_names(table, ours)
        except UserError:  # of another network
            continue
        if all(name in theirs for name in names.theirs.values()):
            return names
    try:
        return names_by_order(ours, theirs, source, ordered=ordered)
    except UserError as error:
        raise UserError(f"{error}; or give a table of names: --names FILE.toml") from error


def _read(text: str) -> dict[str, str]:
    if text in shipped():
        file = resources.files("engine").joinpath(_FOLDER, f"{text.replace(':', '-', 1)}.toml")
        return dict(_flat(tomllib.loads(file.read_text("utf-8")), text))
    path = expand(text, "names")
    if path.suffix != ".toml" and (path.is_dir() or not path.exists()):
        hint = did_you_mean(text, shipped())
        raise UserError(f'names: got "{text}"{hint}; {one_of(shipped())}, or the path of a TOML file')
    with reading(path, "names"):
        content = read_bytes(path)
    try:
        return dict(_flat(tomllib.loads(content.decode()), text))
    except UserError:
        raise
    except (ValueError, RecursionError) as error:
        raise UserError(f"names: {text}: is not TOML: {shortened(error)}") from error


def _flat(table: Mapping[str, Any], source: str, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield the entries of a table; scale.mean is one inside another unless it stands in quotation marks."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, source, f"{prefix}{key}.")
        elif isinstance(value, str):
            yield f"{prefix}{key}", value
        else:
            kind = type(value).__name__
            raise UserError(f"names: {source}: {shortened(prefix + key)} is {kind}; must be a name in quotes")


def _modules(shapes: Shapes) -> dict[str, dict[str, Shape]]:
    """Return the tensors of each module, by their names in it."""
    found: dict[str, dict[str, Shape]] = {}
    for name, shape in shapes.items():
        node, leaf = _halves(name)
        found.setdefault(node, {})[leaf] = shape
    return found


def _by_shape(
    mine: Mapping[str, dict[str, Shape]], others: Mapping[str, dict[str, Shape]], source: str
) -> Iterator[tuple[str, str]]:
    for node, tensors in mine.items():
        like = [name for name, each in others.items() if each == tensors]
        rivals = [name for name, each in mine.items() if each == tensors]
        shapes = ", ".join(f"{leaf} {list(shape)}" for leaf, shape in tensors.items())
        if not like:
            raise UserError(f"names: {source} has no module with {shapes}, which {node} has")
        if len(like) > 1 or len(rivals) > 1:
            raise UserError(
                f"names: which of {shortened(', '.join(like))} in {source} is {node} is not clear: they have "
                f"{shapes}"
            )
        yield node, like[0]


def _once(theirs: dict[str, str], source: str) -> dict[str, str]:
    ours_of: dict[str, str] = {}
    for ours, name in theirs.items():
        if name in ours_of:
            raise UserError(
                f"names: {source} gives {shortened(name)} to {ours_of[name]} and {ours}; must be one each"
            )
        ours_of[name] = ours
    return theirs


def _node(name: str) -> str:
    return _halves(name)[0]


def _halves(name: str) -> tuple[str, str]:
    node, _, leaf = name.rpartition(".")
    return node, leaf
