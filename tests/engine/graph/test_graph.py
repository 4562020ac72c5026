"""Shape inference, and the errors of a network that does not fit together."""

import pytest

from engine.graph import Graph, GraphBuilder, Node
from engine.models import MODELS
from layers.add import Add
from layers.conv2d import Conv2d
from layers.flatten import Flatten
from layers.linear import Linear
from layers.relu import ReLU
from tests.engine import graphs


def test_shapes_are_inferred_along_the_graph():
    graph = graphs.residual()
    assert graph.shapes["relu3"] == (16, 8, 8)
    assert graph.shapes["add4"] == (24, 4, 4)
    assert graph.output_shape == (4,)


@pytest.mark.parametrize(
    ("model", "parameters"),
    [("vgg_a", 132_863_336), ("overfeat_fast", 145_920_872), ("cd_dnn", 45_122_648)],
)
def test_models_have_the_published_number_of_parameters(model, parameters):
    assert MODELS[model]().parameter_count() == parameters


@pytest.mark.parametrize(
    ("model", "forward_gflop"), [("vgg_a", 15.22), ("overfeat_fast", 5.60), ("cd_dnn", 0.271 / 3)]
)
def test_models_have_the_published_number_of_flops(model, forward_gflop):
    graph = MODELS[model]()
    flops = sum(node.layer.flops(*graph.input_shapes(node)) for node in graph)
    assert flops / 1e9 == pytest.approx(forward_gflop, rel=0.01)


def test_layers_are_named_as_in_the_literature():
    names = {node.name for node in MODELS["vgg_a"]()}
    assert {"conv1_1", "conv2_1", "conv3_2", "conv5_2", "fc6", "fc7", "fc8"} <= names
    assert {"conv1", "conv5", "fc6", "fc8"} <= {node.name for node in MODELS["overfeat_fast"]()}
    assert {f"fc{layer}" for layer in range(1, 9)} <= {node.name for node in MODELS["cd_dnn"]()}


def test_a_kernel_larger_than_its_image_names_the_node():
    net = GraphBuilder((3, 4, 4))
    net.add("conv1", Conv2d(8, 7))
    with pytest.raises(ValueError, match=r"^conv1: a 7x7 kernel does not fit an image of 4x4"):
        net.graph()


def test_a_linear_layer_on_images_says_what_to_put_before_it():
    net = GraphBuilder((3, 4, 4))
    net.add("fc1", Linear(8))
    with pytest.raises(ValueError, match=r"^fc1: .*put Flatten before it"):
        net.graph()


def test_an_unknown_value_names_the_reader():
    with pytest.raises(ValueError, match=r"^add: reads 'b', which no earlier node makes"):
        Graph((4,), (Node("a", ReLU(), ("input",)), Node("add", Add(), ("a", "b"))))


def test_a_name_may_be_used_once():
    net = GraphBuilder((4,))
    net.add("a", ReLU())
    net.add("a", ReLU())
    with pytest.raises(ValueError, match=r"^a: the name is used twice"):
        net.graph()


def test_values_that_nobody_reads_are_named():
    net = GraphBuilder((4,))
    net.add("a", Linear(3), "input")
    net.add("b", Linear(3), "input")
    with pytest.raises(ValueError, match=r"one output; nothing reads a, b"):
        net.graph()


def test_images_of_other_sizes_cannot_be_added():
    net = GraphBuilder((3, 4, 4))
    net.add("a", Conv2d(8, 3), "input")
    net.add("b", Conv2d(8, 1), "input")
    net.add("sum", Add(), "a", "b")
    net.add("flatten", Flatten())
    with pytest.raises(ValueError, match=r"^sum: "):
        net.graph()
