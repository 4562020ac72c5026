"""A trained network as it is handed on: the graph, its tensors, and what is known about them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from engine.graph import Graph
from layers.layer import Array


@dataclass(frozen=True)
class Scaling:
    """x = pixel * scale + shift for each channel, as the training data was read."""

    scale: tuple[float, ...]
    shift: tuple[float, ...]

    def described(self) -> dict[str, list[float]]:
        """Return mean and deviation of the pixels by channel: x = (pixel - mean) / deviation."""
        mean = [-shift / scale for scale, shift in zip(self.scale, self.shift, strict=True)]
        return {"mean": mean, "deviation": [1 / scale for scale in self.scale]}


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
    preprocessing: Scaling | None = None
    """None where the data had none."""
    explained: Mapping[str, str] = field(default_factory=dict)
    """What a file of weights says beside, from which this engine reads it again."""
