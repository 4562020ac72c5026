"""Behind a Fork every value has one reader, and the network is the same."""

import pytest

from engine.graph import INPUT, GraphBuilder
from engine.graph.passes.fork import insert_forks
from layers.add import Add
from layers.fork import Fork
from layers.relu import ReLU
from tests.engine.graphs import GRAPHS, branches, perceptron


@pytest.mark.parametrize("make", GRAPHS.values())
def test_every_value_has_one_reader(make):
    graph = insert_forks(make())
    for value in graph.shapes:
        assert len(graph.readers(value)) == (0 if value == graph.output else 1)


def test_forks_stand_behind_what_they_distribute_also_behind_the_input():
    graph = insert_forks(branches())
    names = [node.name for node in graph]
    assert names[0] == f"fork {INPUT}"
    assert names.index("fork relu") == names.index("relu") + 1
    layers = {node.name: node.layer for node in graph}
    assert layers["fork relu"] == Fork(2)


def test_readers_take_their_outputs_in_the_order_of_the_network():
    graph = insert_forks(branches())
    inputs = {node.name: node.inputs for node in graph}
    assert inputs["conv1x1"] == ("fork input:0",)
    assert inputs["conv3x3"] == ("fork input:1",)
    assert inputs["sum"] == ("pool", "fork relu:1")


def test_what_could_be_fused_counts_as_its_last_node():
    net = GraphBuilder((4,))
    value = net.add("value", ReLU())
    net.add("one", ReLU(), value)
    net.add("other", ReLU(), value)
    net.add("sum", Add(), "other", "one")
    net.add("whole", Add(), "sum", value)
    inputs = {node.name: node.inputs for node in insert_forks(net.graph(), [("one", "sum")])}
    assert inputs["other"] == ("fork value:0",)
    assert inputs["one"] == ("fork value:1",)
    assert inputs["whole"] == ("sum", "fork value:2")


def test_a_node_that_reads_a_value_twice_gets_two_outputs():
    net = GraphBuilder((4,))
    twice = net.add("relu", ReLU())
    net.add("double", Add(), twice, twice)
    graph = insert_forks(net.graph())
    assert graph.nodes[-1].inputs == ("fork relu:0", "fork relu:1")


def test_a_chain_has_no_fork():
    assert insert_forks(perceptron()) == perceptron()
