"""Which values and gradients share storage, and which nodes need gradients."""

import numpy as np

from engine.graph import Graph, GraphBuilder
from engine.graph.passes.fork import insert_forks
from engine.training.storage import Storage
from layers.concat import Concat
from layers.conv2d import Conv2d
from layers.dropout import Dropout
from layers.flatten import Flatten
from layers.kernels.simd import LANES
from layers.linear import Linear
from layers.max_pool import MaxPool
from layers.relu import ReLU
from tests.engine.graphs import branches

SAMPLES = 4


def storage(graph: Graph) -> tuple[Graph, Storage]:
    forked = insert_forks(graph)
    return forked, Storage(forked, dict.fromkeys(forked.shapes, SAMPLES))


def start(array: np.ndarray) -> int:
    return array.ctypes.data


def test_gradients_are_wanted_behind_the_first_parameters_only():
    net = GraphBuilder((3, 6, 6))
    net.add("drop", Dropout(0.5))
    net.add("pool", MaxPool(2, 2))
    net.add("conv", Conv2d(8, 3))
    net.add("relu", ReLU())
    net.add("flatten", Flatten())
    net.add("fc", Linear(2))
    graph, made = storage(net.graph())
    assert [node.name for node in graph if made.wants_gradient(node)] == ["relu", "flatten", "fc"]
    assert set(made.allocate_gradients()) == {"conv", "relu", "flatten", "fc"}


def test_a_branch_without_parameters_needs_no_gradient_where_the_other_has_one():
    graph, made = storage(branches())
    wanted = {node.name for node in graph if made.wants_gradient(node)}
    assert not {"fork input", "conv1x1", "conv3x3"} & wanted
    assert {"concat", "relu", "fork relu", "pool", "sum", "flatten", "fc"} == wanted


def test_nothing_writes_over_the_input_of_the_graph():
    net = GraphBuilder((12,))
    net.add("relu", ReLU())
    net.add("fc", Linear(2))
    _, made = storage(net.graph())
    values = made.allocate_values()
    assert not np.shares_memory(values["input"], values["relu"])


def lanes_of_input(net: GraphBuilder) -> int:
    _, made = storage(net.graph())
    return made.allocate_values()["input"].shape[4]


def test_the_input_of_a_first_layer_has_no_padded_channels() -> None:
    net = GraphBuilder((3, 8, 8))
    net.add("conv1", Conv2d(16, 3, padding=1))
    net.add("conv2", Conv2d(2, 3))  # its reader is no first layer of the network
    net.add("conv3", Conv2d(16, 3))
    _, made = storage(net.graph())
    values = made.allocate_values()
    assert values["input"].shape == (SAMPLES, 1, 8, 8, 3)
    assert values["input"].strides[2] >= 10 * values["input"].strides[3]  # the halo of the padding
    assert values["conv2"].shape[4] == LANES


def test_the_input_is_dense_only_if_all_its_readers_want_that() -> None:
    two, other = GraphBuilder((3, 8, 8)), GraphBuilder((3, 8, 8))
    two.add("another", Conv2d(16, 5, padding=2), "input")
    other.add("another", Conv2d(16, 1), "input")
    for net in (two, other):
        net.add("one", Conv2d(16, 3, padding=1), "input")
        net.add("end", Concat(), "one", "another")
    assert lanes_of_input(two) == 3
    assert lanes_of_input(other) == LANES


def test_gradients_of_unequal_form_have_storage_of_their_own():
    net = GraphBuilder((3, 8, 8))
    net.add("conv1", Conv2d(16, 3))
    net.add("conv2", Conv2d(16, 3))
    net.add("conv3", Conv2d(16, 3))
    net.add("flatten", Flatten())
    net.add("fc", Linear(2))
    _, made = storage(net.graph())
    gradients = made.allocate_gradients()
    images = [gradients[f"conv{number}"] for number in (1, 2, 3)]
    assert len({start(image) for image in images}) == 3
