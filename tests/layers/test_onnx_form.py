"""Every layer says what it is in ONNX, and ONNX Runtime computes from that what the reference does."""

import pkgutil
from importlib import import_module

import numpy as np
import pytest

import layers
from layers.batch_norm import BatchNorm
from layers.layer import Layer
from layers.onnx_form import OnnxNode, chained
from layers.reference import reference_of
from layers.relu import ReLU
from layers.wrapped import WrappedLayer
from tests.layers import harness
from tests.layers.cases import CASES, Case
from tests.toy_layer import Scale

TOY = Case(Scale(), ((17, 5, 7),))
TOLERANCE = 2e-5
"""Of the largest value: float32 sums of some thousand terms, in another order than the reference's."""


def _kinds(base: type[Layer]) -> set[type[Layer]]:
    return {kind for each in base.__subclasses__() for kind in (each, *_kinds(each))}


def _ours() -> set[type[Layer]]:
    """Return all layers of the package, also those that no list knows."""
    for module in pkgutil.walk_packages(layers.__path__, "layers."):
        import_module(module.name)
    shipped = {kind for kind in _kinds(Layer) if kind.__module__.partition(".")[0] == "layers"}
    return {kind for kind in shipped if not kind.__name__.startswith("_")} - _kinds_that_only_watch()


def _kinds_that_only_watch() -> set[type[Layer]]:
    return {kind for kind in (WrappedLayer, *_kinds(WrappedLayer)) if "around" in vars(kind)} | {WrappedLayer}


def test_every_layer_of_the_package_has_a_case_and_a_form_of_its_own():
    kinds = _ours()
    assert {"Conv2d", "Linear", "Conv2dReLUPool", "Fork"} <= {kind.__name__ for kind in kinds}
    assert kinds == {type(case.layer) for case in CASES}
    assert [kind for kind in kinds if kind.onnx in (Layer.onnx, WrappedLayer.onnx)] == []


def test_a_layer_without_a_form_is_refused_by_its_name():
    class Odd(ReLU):
        onnx = Layer.onnx

    with pytest.raises(ValueError, match=r"^Odd has no ONNX form; give it a method onnx\(self, \*inputs\)"):
        Odd().onnx((3,))


@pytest.mark.parametrize("case", [*CASES, TOY], ids=str)
def test_a_form_reads_what_there_is_and_makes_the_result(case):
    held = {**case.layer.parameters(*case.shapes), **case.layer.state(*case.shapes)}
    known = {*held, *(f"x{index}" for index in range(len(case.shapes)))}
    for node in case.layer.onnx(*case.shapes):
        known |= node.constants.keys()
        assert set(node.inputs) <= known
        assert not set(node.outputs) & known
        known |= set(node.outputs)
    assert "y" in known


def test_of_chained_forms_each_reads_what_the_one_before_makes():
    one, two, three = (OnnxNode(kind) for kind in ("Relu", "Sigmoid", "Tanh"))
    chain = chained(chained((one,), (two,)), (three,))
    assert [node.kind for node in chain] == ["Relu", "Sigmoid", "Tanh"]
    assert [*chain[0].inputs, *chain[2].outputs] == ["x0", "y"]
    assert [node.inputs for node in chain[1:]] == [node.outputs for node in chain[:2]]
    assert len({node.outputs for node in chain}) == 3


@pytest.mark.parametrize("case", [*CASES, TOY], ids=str)
def test_onnx_runtime_computes_what_the_reference_does(case):
    given = harness.problem(case.layer, case.shapes, case.samples)
    wanted = reference_of(case.layer).forward(case.layer, given)[0]
    if case is TOY:
        wanted = wanted - 0.5  # the initial state; the reference is that of training
    if type(case.layer).__name__ == "Dropout":
        wanted = given.inputs[0]
    if isinstance(case.layer, BatchNorm):
        wanted = _by_initial_statistics(case.layer, given)
    found = _run(case, given)
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=0, atol=TOLERANCE * np.abs(wanted).max())


def _by_initial_statistics(layer: BatchNorm, given: harness.Problem) -> np.ndarray:
    """Return what a layer makes outside training, before its first step: the mean is 0, the variance 1."""
    x, *addends = given.inputs
    shape = (-1, *(1 for _ in x.shape[2:]))
    weight = given.parameters["weight"].reshape(shape) if layer.scaled else 1
    y = x * weight / np.sqrt(1 + layer.epsilon) + given.parameters["bias"].reshape(shape)
    activation = getattr(layer, "activation", "")
    low, high = {"relu": (0, np.inf), "relu6": (0, 6)}.get(activation, (-np.inf, np.inf))
    return np.clip(sum(addends, y), low, high)


def _run(case: Case, given: harness.Problem) -> np.ndarray:
    """Run a layer's form as a model with the inputs, parameters and states as its inputs."""
    onnxruntime = pytest.importorskip("onnxruntime", reason="extra: export")
    onnx = pytest.importorskip("onnx", reason="extra: export")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    shapes = case.shapes
    values = {f"x{index}": x for index, x in enumerate(given.inputs)} | given.parameters
    values |= {name: np.full(state.shape, state.initial) for name, state in case.layer.state(*shapes).items()}
    form = case.layer.onnx(*shapes)
    graph = helper.make_graph(
        [helper.make_node(each.kind, each.inputs, each.outputs, **each.attributes) for each in form],
        "layer",
        [helper.make_tensor_value_info(name, kind, each.shape) for name, each in values.items()],
        [helper.make_tensor_value_info("y", kind, None)],
        [
            onnx.numpy_helper.from_array(value, name)
            for each in form
            for name, value in each.constants.items()
        ],
    )
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {name: value.astype(np.float32) for name, value in values.items()})
    return y
