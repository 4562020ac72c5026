"""A layer in ONNX: plain descriptions of operators, which the exporter turns into a file's nodes.

Names of values hold inside the layer: it reads ``x0``, ``x1``, ... and makes ``y``. Its parameters and its
state are there by their own names, in standard layout. Any other name is a value between two of its
operators.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from numpy.typing import NDArray

Attribute = int | float | str | tuple[int, ...] | tuple[float, ...]

RESULT = "y"


@dataclass(frozen=True)
class OnnxNode:
    """One operator of ONNX's own domain; ``OnnxNode("Relu")`` is y = Relu(x0)."""

    kind: str
    """Its name there: "Conv", "Gemm"."""
    inputs: tuple[str, ...] = ("x0",)
    outputs: tuple[str, ...] = (RESULT,)
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    constants: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """Inputs by name that are neither values nor parameters, such as bounds or axes; a name means the same
    array in all operators of a layer."""


OnnxForm = tuple[OnnxNode, ...]
"""The operators of a layer outside training, in the order in which they run."""


def chained(first: OnnxForm, then: OnnxForm) -> OnnxForm:
    """Return one form of two: the second reads as x0 what the first makes."""
    between = f"value{len(first)}"  # each operator makes one value, so that no other has the name
    before = [replace(node, outputs=_renamed(node.outputs, RESULT, between)) for node in first]
    behind = [replace(node, inputs=_renamed(node.inputs, "x0", between)) for node in then]
    return (*before, *behind)


def _renamed(names: tuple[str, ...], old: str, new: str) -> tuple[str, ...]:
    return tuple(new if name == old else name for name in names)
