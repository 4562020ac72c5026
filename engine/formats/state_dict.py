"""State dicts of other programs: tensors by name, in a file of torch.save or of safetensors."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engine.config.errors import UserError
from engine.config.paths import expand
from engine.formats.names import Names, Shapes, fitting_names, names_by_order, read_names
from engine.formats.safetensors_file import read_safetensors
from engine.formats.torch_file import read_torch
from layers.layer import Array

READERS: dict[str, Callable[[Path], dict[str, Array]]] = {
    "torch": read_torch,
    "safetensors": read_safetensors,
}
"""By format."""

_ENDINGS = {".pth": "torch", ".pt": "torch", ".bin": "torch", ".safetensors": "safetensors"}


@dataclass(frozen=True, eq=False)
class StateDict:
    """Tensors by name."""

    path: Path
    tensors: dict[str, Array]
    is_ordered: bool
    """They stand in the order of the network's modules; safetensors sorts them in its own way."""

    @property
    def shapes(self) -> Shapes:
        """Shapes of the tensors by name."""
        return {name: tensor.shape for name, tensor in self.tensors.items()}

    def names_of(self, ours: Shapes) -> Names:
        """Return their names for our tensors by order and shape; UserError where it is not clear."""
        return names_by_order(ours, self.shapes, str(self.path), ordered=self.is_ordered)

    def fitting_names_of(self, ours: Shapes) -> Names:
        """Return the names by which these tensors are those of a network; UserError where none fit."""
        return fitting_names(ours, self.shapes, str(self.path), ordered=self.is_ordered)


def asked_names(table: str | None, other: str | None, ours: Shapes) -> Names | None:
    """Return the names that a command is asked for; None where it is asked for none.

    Parameters
    ----------
    table
        As `read_names` takes it.
    other
        A state dict whose modules stand in the network's order.

    Raises
    ------
    UserError
        Both are given, or one cannot be read or does not fit.
    """
    if table is not None and other is not None:
        raise UserError("names: got --names and --names-from; must be one of them")
    if other is not None:
        return read_state_dict(expand(other, "names-from")).names_of(ours)
    return None if table is None else read_names(table, ours)


def read_state_dict(path: Path, source: str | None = None) -> StateDict:
    """Read the state dict of a file.

    Parameters
    ----------
    source
        Its format, one of `READERS`; None: as the ending says.

    Raises
    ------
    UserError
        It cannot be read, or the ending says nothing.
    """
    source = source or _ENDINGS.get(path.suffix)
    if source is None:
        raise UserError(f"{path}: its ending says no format; must be one of {', '.join(_ENDINGS)}")
    return StateDict(path, READERS[source](path), source == "torch")
