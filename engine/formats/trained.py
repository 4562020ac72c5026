"""A trained network as it is handed on: the graph, its tensors, and what is known about them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import Any

from engine.config.errors import UserError
from engine.graph import Graph
from layers.layer import Array


@dataclass(frozen=True)
class Preprocessing:
    """x = pixel * scale + shift for each channel, as the training data was read."""

    scale: tuple[float, ...]
    shift: tuple[float, ...]

    @classmethod
    def of_checkpoint(cls, written: Mapping[str, Any] | None, where: Path) -> "Preprocessing | None":
        """Return the one that a checkpoint's state describes; `where` names that in errors.

        Raises
        ------
        UserError
            It has no scale and shift of as many channels.
        """
        if written is None:
            return None
        numbers = [written.get(name) for name in ("scale", "shift")]
        scale, shift = (tuple(each) if each and _are_numbers(each) else () for each in numbers)
        if not scale or len(scale) != len(shift) or 0 in scale:
            raise UserError(f"{where}: normalisation must have scale and shift, a number for each channel")
        return cls(scale, shift)

    def described(self) -> dict[str, list[float]]:
        """Return mean and deviation of the pixels by channel: x = (pixel - mean) / deviation."""
        mean = [-shift / scale for scale, shift in zip(self.scale, self.shift, strict=True)]
        return {"mean": mean, "deviation": [1 / scale for scale in self.scale]}


def _are_numbers(values: Any) -> bool:
    return isinstance(values, list) and all(type(each) in (int, float) and isfinite(each) for each in values)


@dataclass(frozen=True, eq=False)
class Trained:
    """A network with its weights."""

    network: Graph
    tensors: Mapping[str, Array]
    """Weights and states by name, float32 in standard layout; others are not handed on."""
    logits: Callable[[Array], Array]
    """Returns the engine's own logits, float32 [N, classes], of inputs [N, *input_shape]."""
    about: Mapping[str, str] = field(default_factory=dict)
    """What the file shall say about it, by name: class names, the model, the step."""
    preprocessing: Preprocessing | None = None
    """None where the data had none."""
