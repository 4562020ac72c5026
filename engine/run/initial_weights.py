"""Begin a new run with weights that are there already: what of them is taken, left, or drawn anew."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.config.errors import UserError
from engine.config.paths import expand
from engine.config.wording import counted
from engine.formats.state_dict import read_state_dict
from engine.graph import Graph
from engine.run.checkpoint import read_state
from engine.run.finding import better_than_newest, read_found
from engine.run.finite import is_finite
from engine.run.kept_checkpoints import MODEL
from engine.run.whole import check_whole
from layers.layer import Array, Shape

_NAMED = 3  # tensors that a line names


@dataclass(frozen=True)
class InitialWeights:
    """Weights and state with which a run begins; what a network has beside them is drawn from the seed."""

    source: str
    """As the user named it."""
    taken: dict[str, Array]
    """float32 in standard layout by ``node.name``."""
    left: tuple[str, ...]
    """Names that the network does not have."""
    drawn: tuple[str, ...]
    """Names that the source does not have, or has for a head of another size."""
    note: str = ""
    """That the source has a better checkpoint; empty if not."""
    random: tuple[str, ...] = ()
    """Nodes that are frozen, although some of their tensors are drawn."""

    @property
    def sha256(self) -> str:
        """Hash of what was taken: names, shapes and bits."""
        digest = hashlib.sha256()
        for name in sorted(self.taken):
            array = self.taken[name]
            digest.update(f"{name} {array.shape}\n".encode())
            digest.update(array.astype("<f4", copy=False).data)
        return digest.hexdigest()

    def lines(self) -> list[str]:
        """Return what a user is told of it."""
        told = [f"init: {counted(len(self.taken), 'tensor')} taken from {self.source}: {_short(self.taken)}"]
        if self.drawn:
            told.append(f"init: {counted(len(self.drawn), 'tensor')} drawn anew: {_short(self.drawn)}")
        if self.random:
            told.append(f"warning: frozen, but drawn anew, and never trained: {_short(self.random)}")
        if self.left:
            told.append(f"init: {counted(len(self.left), 'tensor')} left there: {_short(self.left)}")
        return [*told, self.note] if self.note else told


def initial_weights(source: str, graph: Graph, classes: Sequence[str] = ()) -> InitialWeights:
    """Read weights and choose what fits a network, by name.

    A head is drawn anew as a whole where its size differs, or where it knows other classes: a node with
    parameters behind which there are no others on the way to the output.

    Parameters
    ----------
    source
        A run's folder, of which the newest checkpoint is taken, a checkpoint, or a file of `read_state_dict`.

    Raises
    ------
    UserError
        It cannot be read, a value is not finite, a tensor of a node that is no head has another shape, or
        nothing fits.
    """
    (found, known), wanted = _read(source), _wanted(graph)
    differing = [
        node
        for node, its in wanted.items()
        if any(name in found and found[name].shape != shape for name, shape in its.items())
    ]
    heads = heads_of(graph)
    if _are_names(known) and _are_names(classes) and known != tuple(classes):
        differing += [node for node in heads if node not in differing]
    for node in differing:
        if node not in heads:
            raise UserError(f"init: {source}: {_mismatch(found, wanted[node])}")
    names = {name for node, its in wanted.items() for name in its if node not in differing}
    everything = [name for its in wanted.values() for name in its]
    taken = {name: found[name] for name in everything if name in names and name in found}
    if not taken:
        held = _short(sorted(found)) or "no tensors"
        raise UserError(
            f"init: {source}: nothing fits: it holds {held}; the network has {_short(everything)}; "
            "python -m engine.convert gives tensors their names"
        )
    for name, array in taken.items():
        if not is_finite(array):
            raise UserError(f"init: {source}: {name} is not finite")
    drawn = tuple(name for name in everything if name not in taken)
    left = tuple(name for name in sorted(found) if name not in everything)
    return InitialWeights(source, taken, left, drawn, better_than_newest(expand(source, "init")))


def heads_of(graph: Graph) -> set[str]:
    """Return the nodes with parameters behind which no others lie on the way to the output: mostly one."""
    heads, seen, values = set[str](), set[str](), [graph.output]
    makers = {value: node for node in graph for value in node.outputs}
    while values:
        node = makers.get(values.pop())
        if node is None or node.name in seen:
            continue
        seen.add(node.name)
        if node.layer.parameters(*graph.input_shapes(node)):
            heads.add(node.name)
        else:
            values += node.inputs
    return heads


def _read(source: str) -> tuple[dict[str, Array], tuple[str, ...]]:
    """Return the tensors of a source, and the classes that its head knows; empty where it does not say."""
    path = expand(source, "init")
    if path.suffix and not path.is_dir():
        return read_state_dict(path).tensors, ()
    return read_found(path, _read_model, what="init")


def _read_model(checkpoint: Path) -> tuple[dict[str, Array], tuple[str, ...]]:
    check_whole(checkpoint, (MODEL,))
    return read_state_dict(checkpoint / MODEL).tensors, read_state(checkpoint).class_names


def _are_names(classes: Sequence[str]) -> bool:
    """Say whether classes have names, and not only the numbers that stand for names nobody gave."""
    return bool(classes) and tuple(classes) != tuple(map(str, range(len(classes))))


def _wanted(graph: Graph) -> dict[str, dict[str, Shape]]:
    """Return the shapes of all parameters and state by ``node.name``, for each node."""
    found: dict[str, dict[str, Shape]] = {}
    for node in graph:
        inputs = graph.input_shapes(node)
        its = {name: each.shape for name, each in node.layer.parameters(*inputs).items()}
        its |= {name: each.shape for name, each in node.layer.state(*inputs).items()}
        found[node.name] = {f"{node.name}.{name}": shape for name, shape in its.items()}
    return found


def _mismatch(found: Mapping[str, Array], wanted: Mapping[str, Shape]) -> str:
    name, shape = next(
        (name, shape) for name, shape in wanted.items() if name in found and found[name].shape != shape
    )
    return (
        f"{name} is {list(found[name].shape)}, the network wants {list(shape)}; only the last layer with "
        "weights may differ, which is drawn anew then"
    )


def _short(names: Iterable[str]) -> str:
    """Return the first names, and how many others there are."""
    listed = list(names)
    more = f" and {counted(len(listed) - _NAMED, 'other')}" if len(listed) > _NAMED else ""
    return ", ".join(listed[:_NAMED]) + more
