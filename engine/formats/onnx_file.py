"""A network as an ONNX file: each layer says its operators (`layers.onnx_form`), and onnx checks them all."""

import json
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from engine.config.errors import UserError
from engine.config.wording import shortened
from engine.formats.names import tensor_shapes
from engine.formats.trained import Trained
from engine.graph import INPUT, Node
from layers.layer import Array, Shape
from layers.onnx_form import RESULT, OnnxForm, OnnxNode

OPSET, FIRST_OPSET = 17, 11
LOGITS, PROBABILITIES = "logits", "probabilities"
BATCH = "N"
"""Name of the dimension that is free."""
MOST_BYTES = 2**31 - 2**20
"""Of the weights in one file, as its format counts bytes in 31 bits."""

_PIXELS, _NORMALISED = "pixels", "normalised"
_RESERVED = {LOGITS, PROBABILITIES, _PIXELS, _NORMALISED}


@dataclass(frozen=True)
class OnnxOptions:
    """What the file shall hold beside the network."""

    softmax: bool = False
    """Its output is probabilities instead of logits."""
    preprocess: bool = False
    """Its input is pixels, uint8 [N, C, H, W], which it normalises as the training data was."""
    opset: int = OPSET


def load_onnx() -> ModuleType:
    """Import onnx.

    Raises
    ------
    UserError
        It is not installed; the error says how to install it.
    """
    try:
        import onnx  # noqa: PLC0415 -- an extra: only its users need it
    except ImportError as error:
        raise UserError(
            "onnx is not installed; install it with pip install 'lockstep-sgd[export]'"
        ) from error
    return onnx


def onnx_bytes(trained: Trained, options: OnnxOptions) -> bytes:
    """Return the content of an ONNX file, which onnx has checked in full.

    Its input is "input" [N, *input_shape], its output "logits" or "probabilities" [N, classes]; nodes and
    values have the names of the network, tensors those of the checkpoint.

    Raises
    ------
    UserError
        onnx is not installed, a layer has no ONNX form, the weights are too many for one file, the opset is
        not one that onnx knows, or it has no such operators.
    """
    onnx = load_onnx()
    newest = onnx.defs.onnx_opset_version()
    if not FIRST_OPSET <= options.opset <= newest:
        raise UserError(f"opset: got {options.opset}; must be from {FIRST_OPSET} to {newest}")
    taken = sum(4 * trained.tensors[name].size for name in tensor_shapes(trained.network))
    if taken > MOST_BYTES:
        raise UserError(
            f"onnx: the weights take {taken / 1e9:.2f} GB; one file can hold {MOST_BYTES / 1e9:.2f} GB: "
            "hand them on with --to safetensors or --to torch"
        )
    content: bytes = _Writer(onnx, trained, options).model().SerializeToString()
    try:
        onnx.checker.check_model(content, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        said = next(filter(None, str(error).splitlines()), "")
        raise UserError(f"onnx: the network is no valid model of opset {options.opset}: {said}") from error
    return content


class _Writer:
    """Makes the parts of the model."""

    def __init__(self, onnx: ModuleType, trained: Trained, options: OnnxOptions):
        self._onnx, self._trained, self._options = onnx, trained, options
        self._nodes: list[Any] = []
        self._tensors: list[Any] = []
        network = trained.network
        self._taken = {*_RESERVED, INPUT, network.output, *tensor_shapes(network)}
        """Names of values; those of tensors are the checkpoint's and stay."""
        self._values = {
            node.name: LOGITS if node.name == network.output else self._free(node.name) for node in network
        }

    def model(self) -> Any:
        """Return the whole model."""
        helper, network, about = self._onnx.helper, self._trained.network, dict(self._trained.about)
        values = {INPUT: self._read_pixels() if self._options.preprocess else INPUT}
        for node in network:
            values |= dict.fromkeys(node.outputs, self._values[node.name])
            self._add_layer(node, values)
        if self._options.softmax:
            self._add("Softmax", [LOGITS], PROBABILITIES, axis=1)
        about["opset"] = str(self._options.opset)
        if (preprocessing := self._trained.preprocessing) is not None:
            inside = {"inside": self._options.preprocess}
            about["preprocessing"] = json.dumps(inside | preprocessing.described())
        kinds = self._onnx.TensorProto
        kind = kinds.UINT8 if self._options.preprocess else kinds.FLOAT
        result = PROBABILITIES if self._options.softmax else LOGITS
        graph = helper.make_graph(
            self._nodes,
            about.get("model", "network"),
            [helper.make_tensor_value_info(INPUT, kind, [BATCH, *network.input_shape])],
            [helper.make_tensor_value_info(result, kinds.FLOAT, [BATCH, *network.output_shape])],
            self._tensors,
        )
        opsets = [helper.make_opsetid("", self._options.opset)]
        model = helper.make_model(
            graph,
            opset_imports=opsets,
            ir_version=helper.find_min_ir_version_for(opsets),  # so that runtimes of its time read it
            producer_name="lockstep",
        )
        helper.set_model_props(model, about)
        return model

    def _free(self, name: str) -> str:
        """Return a name that no other value has: this one, or one that begins so."""
        while name in self._taken:
            name = f"{name}_value"
        self._taken.add(name)
        return name

    def _add_layer(self, node: Node, values: dict[str, str]) -> None:
        """Add the operators of a node's layer, and its tensors."""
        shapes = self._trained.network.input_shapes(node)
        form = _form(node, shapes)
        held = (*node.layer.parameters(*shapes), *node.layer.state(*shapes))
        names = {f"x{index}": values[value] for index, value in enumerate(node.inputs)}
        names[RESULT] = self._values[node.name]
        if taken := names.keys() & set(held):
            raise UserError(f"{node.name}: a parameter cannot be called {min(taken)} in ONNX, as a value is")
        for name in held:
            names[name] = f"{node.name}.{name}"
            self._add_tensor(names[name], self._trained.tensors[names[name]])
        for each in form:
            for name, constant in each.constants.items():
                if name not in names:  # several operators may share one
                    names[name] = self._free(f"{node.name}.{name}")
                    self._add_tensor(names[name], constant)
            self._name_others(node, each, names)
            sides = ([names[name] for name in side] for side in (each.inputs, each.outputs))
            label = node.name if RESULT in each.outputs else names[each.outputs[0]]
            try:
                made = self._onnx.helper.make_node(each.kind, *sides, name=label, **each.attributes)
            except (TypeError, ValueError) as error:
                raise UserError(f"{node.name}: {each.kind}: {error}") from error
            self._nodes.append(made)

    def _name_others(self, node: Node, operator: OnnxNode, names: dict[str, str]) -> None:
        """Give names to the values that only the operators of one layer know."""
        for name in (*operator.inputs, *operator.outputs):
            if name not in names:
                names[name] = self._free(f"{node.name}.{name}")

    def _read_pixels(self) -> str:
        """Add what normalises pixels, in the engine's own steps so that the bits are the same."""
        preprocessing = self._trained.preprocessing
        if preprocessing is None:
            raise UserError("preprocess: the data of this network has no preprocessing; export without it")
        scale, shift, scaled = (self._free(f"{_PIXELS}.{name}") for name in ("scale", "shift", "scaled"))
        for name, values in ((scale, preprocessing.scale), (shift, preprocessing.shift)):
            self._add_tensor(name, np.array(values, np.float32).reshape(-1, 1, 1))
        self._add("Cast", [INPUT], _PIXELS, to=self._onnx.TensorProto.FLOAT)
        self._add("Mul", [_PIXELS, scale], scaled)
        self._add("Add", [scaled, shift], _NORMALISED)
        return _NORMALISED

    def _add(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> None:
        """Add an operator that belongs to no layer; it is called as its value, unless a node is."""
        name = "" if any(node.name == output for node in self._trained.network) else output
        self._nodes.append(self._onnx.helper.make_node(kind, inputs, [output], name=name, **attributes))

    def _add_tensor(self, name: str, values: Array) -> None:
        self._tensors.append(self._onnx.numpy_helper.from_array(np.ascontiguousarray(values), name))


def _form(node: Node, shapes: tuple[Shape, ...]) -> OnnxForm:
    """Return the operators of a node's layer, which may be a user's."""
    try:
        form = node.layer.onnx(*shapes)
    except Exception as error:
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise UserError(f"{node.name}: {kind}{error}") from error
    if type(form) is not tuple or not form or not all(isinstance(each, OnnxNode) for each in form):
        raise UserError(
            f"{node.name}: {type(node.layer).__name__}.onnx returned {shortened(form)}; must be a tuple of "
            "OnnxNodes"
        )
    return form
