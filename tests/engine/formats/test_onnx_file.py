"""Networks as ONNX files."""

import json
import sys
from dataclasses import dataclass, replace

import numpy as np
import pytest

from engine.config.errors import UserError
from engine.formats import onnx_file
from engine.formats.onnx_check import agreement, check_onnx, run_onnx
from engine.formats.onnx_file import OnnxOptions, onnx_bytes
from engine.graph import GraphBuilder
from layers.add import Add
from layers.flatten import Flatten
from layers.fork import Fork
from layers.linear import Linear
from layers.onnx_form import OnnxNode
from layers.relu import ReLU
from tests.engine import graphs
from tests.engine.formats.networks import PIXELS, drawn, with_state
from tests.toy_layer import Scale

onnx = pytest.importorskip("onnx", reason="extra: export")
pytest.importorskip("onnxruntime", reason="extra: export")

PLAIN = OnnxOptions()
TOLERANCE = 2e-5
"""Of the largest logit: float32 sums in another order."""


def forked():
    net = GraphBuilder((6,))
    net.add("fork", Fork(2))
    net.add("relu", ReLU(), "fork:0")
    net.add("add", Add(), "relu", "fork:1")
    net.add("fc", Linear(3, gain=1.0))
    return net.graph()


NETWORKS = [
    graphs.perceptron, graphs.chain, graphs.residual, graphs.branches, graphs.with_dropout,
    graphs.convolutional, graphs.normed, graphs.normed_samples, with_state, forked,
]  # fmt: skip


@pytest.mark.parametrize("network", NETWORKS, ids=lambda function: function.__name__)
def test_onnx_runtime_has_our_logits(network):
    trained = drawn(network())
    content = onnx_bytes(trained, PLAIN)
    assert 0 < check_onnx(content, trained, PLAIN).relative < TOLERANCE


def test_any_number_of_samples_goes_through():
    trained = drawn(graphs.chain())
    content = onnx_bytes(trained, PLAIN)
    x = np.random.default_rng(1).standard_normal((5, 3, 9, 7), dtype=np.float32)
    together = run_onnx(content, x)["logits"]
    assert together.shape == (5, 6)
    alone = np.concatenate([run_onnx(content, x[index : index + 1])["logits"] for index in range(5)])
    np.testing.assert_allclose(together, alone, rtol=0, atol=1e-5 * np.abs(alone).max())


def test_names_are_those_of_the_network():
    trained = drawn(graphs.residual())
    model = onnx.load_model_from_string(onnx_bytes(trained, PLAIN))
    graph = model.graph
    assert [node.name for node in graph.node] == [node.name for node in trained.network]
    assert {each.name for each in graph.initializer} == set(trained.tensors)
    assert [each.name for each in (*graph.input, *graph.output)] == ["input", "logits"]
    made = [node.output[0] for node in graph.node]
    assert made == [*(node.name for node in trained.network.nodes[:-1]), "logits"]
    assert [each.dim_param for each in graph.input[0].type.tensor_type.shape.dim] == ["N", "", "", ""]
    assert [each.dim_value for each in graph.input[0].type.tensor_type.shape.dim] == [0, 2, 8, 8]


def test_what_is_known_of_the_network_is_in_the_file():
    trained = replace(drawn(graphs.chain(), preprocessing=PIXELS), about={"model": "chain", "step": "7"})
    model = onnx.load_model_from_string(onnx_bytes(trained, OnnxOptions(opset=15)))
    about = {each.key: each.value for each in model.metadata_props}
    assert about.items() >= {"model": "chain", "step": "7", "opset": "15"}.items()
    described = json.loads(about["preprocessing"])
    assert described == {
        "inside": False,
        "mean": pytest.approx([100, 100, 100]),
        "deviation": pytest.approx([100, 50, 100 / 3]),
    }
    assert [(each.domain, each.version) for each in model.opset_import] == [("", 15)]
    assert (model.producer_name, model.graph.name) == ("lockstep", "chain")


@pytest.mark.parametrize("opset", [11, 12, 13, 15, 18, 21])
@pytest.mark.parametrize("network", [graphs.branches, with_state])
def test_files_of_other_opsets_compute_the_same(network, opset):
    trained = drawn(network(), preprocessing=PIXELS if network is graphs.branches else None)
    options = OnnxOptions(softmax=True, preprocess=network is graphs.branches, opset=opset)
    if network is with_state and opset < 13:  # its Unsqueeze is that of opset 13
        with pytest.raises(UserError, match=r"^onnx: the network is no valid model of opset 1[12]: "):
            onnx_bytes(trained, options)
        return
    assert check_onnx(onnx_bytes(trained, options), trained, options).relative < TOLERANCE


def test_pixels_are_normalised_inside_as_the_engine_does():
    trained = drawn(graphs.branches(), preprocessing=PIXELS)
    inside = onnx_bytes(trained, OnnxOptions(preprocess=True))
    pixels = np.random.default_rng(2).integers(0, 256, (2, 3, 6, 6), np.uint8)
    scale, shift = (np.array(each, np.float32).reshape(-1, 1, 1) for each in (PIXELS.scale, PIXELS.shift))
    x = pixels * scale + shift
    np.testing.assert_array_equal(
        run_onnx(inside, pixels)["logits"], run_onnx(onnx_bytes(trained, PLAIN), x)["logits"]
    )
    assert agreement(run_onnx(inside, pixels)["logits"], trained.logits(x)).relative < TOLERANCE


def test_softmax_gives_probabilities():
    trained = drawn(graphs.chain())
    x = np.random.default_rng(3).standard_normal((2, 3, 9, 7), dtype=np.float32)
    probabilities = run_onnx(onnx_bytes(trained, OnnxOptions(softmax=True)), x)["probabilities"]
    powers = np.exp(trained.logits(x).astype(np.float64))
    np.testing.assert_allclose(probabilities, powers / powers.sum(axis=1, keepdims=True), atol=1e-5)


def test_a_value_that_is_called_as_the_result_keeps_out_of_its_way():
    net = GraphBuilder((4,))
    net.add("logits", Linear(5))
    net.add("normalised", ReLU())
    net.add("probabilities", Linear(3))
    trained = drawn(net.graph(), preprocessing=None)
    for options in (PLAIN, OnnxOptions(softmax=True)):
        assert check_onnx(onnx_bytes(trained, options), trained, options).relative < TOLERANCE


def _refusal(trained, options=PLAIN):
    with pytest.raises(UserError) as caught:
        onnx_bytes(trained, options)
    return str(caught.value)


def test_pixels_of_data_without_preprocessing_are_refused():
    refusal = _refusal(drawn(graphs.chain()), OnnxOptions(preprocess=True))
    assert refusal == "preprocess: the data of this network has no preprocessing; export without it"


@pytest.mark.parametrize("opset", [-1, 10, 1000])
def test_an_opset_that_does_not_exist_is_refused(opset):
    newest = onnx.defs.onnx_opset_version()
    assert _refusal(drawn(graphs.perceptron()), OnnxOptions(opset=opset)) == (
        f"opset: got {opset}; must be from 11 to {newest}"
    )


def test_weights_that_no_file_holds_are_refused(monkeypatch):
    monkeypatch.setattr(onnx_file, "MOST_BYTES", 1000)
    refusal = _refusal(drawn(graphs.perceptron()))
    assert refusal.startswith("onnx: the weights take 0.00 GB; one file can hold 0.00 GB: hand them on with")


def test_without_onnx_the_extra_is_named(monkeypatch):
    trained = drawn(graphs.perceptron())
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert _refusal(trained) == "onnx is not installed; install it with pip install 'lockstep-sgd[export]'"


@dataclass(frozen=True)
class Said(ReLU):
    """A layer of the user's that says what it is told to."""

    what: object = None

    def onnx(self, *inputs):
        if isinstance(self.what, Exception):
            raise self.what
        return self.what


class Odd(Scale):
    """A layer whose parameter has the name of its input."""

    def parameters(self, *inputs):
        return {"x0": super().parameters(*inputs)["scale"]}

    def state(self, *inputs):
        return {}

    def leaf_values(self, *inputs):
        return {}


class Silent(ReLU):
    def onnx(self, *inputs):
        return super(ReLU, self).onnx(*inputs)


def _with(layer):
    net = GraphBuilder((2, 3, 3))
    net.add("flatten", Flatten())
    net.add("mine", layer)
    net.add("fc", Linear(3, gain=1.0))
    return drawn(net.graph())


def test_a_layer_without_a_form_is_named_with_its_node():
    assert _refusal(_with(Silent())).startswith("mine: Silent has no ONNX form; give it a method onnx(self")


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (None, r"mine: Said.onnx returned None; must be a tuple of OnnxNodes"),
        ((), r"mine: Said.onnx returned \(\); must be a tuple of OnnxNodes"),
        ([OnnxNode("Relu")], r"mine: Said.onnx returned \[OnnxNode.*; must be a tuple of OnnxNodes"),
        (KeyError("odd"), r"mine: KeyError: 'odd'"),
        ((OnnxNode("Rely"),), r"onnx: the network is no valid model of opset 17: .*Rely.*"),
        ((OnnxNode("Relu", ("x7",)),), r"onnx: the network is no valid model of opset 17: .*mine\.x7.*"),
        ((OnnxNode("Relu", outputs=("z",)),), r"onnx: the network is no valid model of opset 17: .*"),
        ((OnnxNode("Relu", attributes={"odd": 1j}),), r"mine: .*"),
    ],
    ids=str,
)
def test_a_form_that_is_none_is_refused_in_a_line(what, said):
    with pytest.raises(UserError, match=f"^{said}$"):
        onnx_bytes(_with(Said(what)), PLAIN)


@pytest.mark.parametrize("options", [PLAIN, OnnxOptions(softmax=True, preprocess=True)])
def test_names_that_clash_keep_out_of_each_others_way(options):
    net = GraphBuilder((3, 4, 4))
    net.add("logits", ReLU())
    net.add("pixels", Scale())
    net.add("flatten", Flatten())
    names = ("flatten.shape", "a.b", "a", "a.b.weight", "a.weight", "a.weight_value", "logits_value")
    for name in (
        *names,
        "logits_value_value",
        "pixels.scale",
        "pixels.scaled",
        "probabilities",
        "normalised",
    ):
        net.add(name, Linear(5))
    trained = drawn(
        net.graph(), preprocessing=replace(PIXELS, scale=PIXELS.scale[:1], shift=PIXELS.shift[:1])
    )
    content = onnx_bytes(trained, options)
    graph = onnx.load_model_from_string(content).graph
    assert set(trained.tensors) <= {each.name for each in graph.initializer}
    assert {node.name for node in trained.network} <= {node.name for node in graph.node}
    check_onnx(content, trained, options)


def test_a_parameter_that_is_called_as_a_value_is_refused():
    net = GraphBuilder((5, 4, 4))
    net.add("scale", Odd())
    net.add("flatten", Flatten())
    assert _refusal(drawn(net.graph())) == "scale: a parameter cannot be called x0 in ONNX, as a value is"


def test_a_form_that_computes_something_else_is_found_out():
    trained = _with(Said((OnnxNode("Sigmoid"),)))
    with pytest.raises(UserError, match=r"logits differ from the engine's by .* must be 0.0001 at most"):
        check_onnx(onnx_bytes(trained, PLAIN), trained, PLAIN)
