"""Parts of a minibatch: their sums are the tree's, and what cannot be cut is refused."""

from dataclasses import dataclass

import pytest

from comm.tree import Tree
from engine.config.errors import UserError
from engine.graph import Graph, Node
from engine.training.microbatches import additions, allowed_microbatches, check_microbatches, slots
from layers.relu import ReLU
from tests.engine.graphs import perceptron


def tree_text(terms):
    """Write the balanced tree over some terms."""
    while len(terms) > 1:
        terms = [f"({one}+{other})" for one, other in zip(terms[::2], terms[1::2], strict=True)]
    return terms[0]


@pytest.mark.parametrize("members", [1, 2, 4])
@pytest.mark.parametrize("microbatches", [2, 4, 8, 16])
def test_partial_gradients_are_added_as_the_tree_with_one_buffer_for_each_height(microbatches, members):
    held = dict.fromkeys(slots(microbatches, members), "")
    assert len(held) == members * microbatches.bit_length()
    for microbatch in range(microbatches):
        for member in range(members):
            slot, adds = additions(microbatch, microbatches, member)
            held[slot] = f"{member}.{microbatch}"
            for total, addend in adds:
                held[total] = f"({held[total]}+{held[addend]})"
    leaves = [f"{member}.{microbatch}" for member in range(members) for microbatch in range(microbatches)]
    assert held[0, 0] == tree_text(leaves)


def test_a_whole_minibatch_needs_no_further_buffer_and_no_addition():
    assert slots(1, 1) == [(0, 0)]
    assert additions(0, 1) == ((0, 0), [])


@dataclass(frozen=True)
class Together(ReLU):
    run: int = 4

    def leaves_together(self, leaves: int) -> int:
        return min(self.run, leaves)


def with_runs(**runs: int) -> Graph:
    graph, runs = perceptron(), runs or {"relu1": 4}
    nodes = tuple(
        Node(node.name, Together(runs[node.name]) if node.name in runs else node.layer, node.inputs)
        for node in graph
    )
    return Graph(graph.input_shape, nodes)


@pytest.mark.parametrize(
    ("ranks", "allowed"), [(1, [1, 2, 4, 8, 16]), (2, [1, 2, 4, 8]), (3, [1, 2, 4]), (5, [1, 2]), (16, [1])]
)
def test_every_rank_cuts_its_leaves_into_aligned_runs(ranks, allowed):
    tree = Tree.of(ranks, 16)
    assert allowed_microbatches(tree, perceptron()) == allowed
    each = [len(tree.leaves_of(rank)) for rank in range(ranks)]
    assert allowed[-1] == min(each)
    for microbatches in allowed:
        check_microbatches(microbatches, tree, perceptron())


def test_more_microbatches_than_leaves_are_refused_with_what_is_allowed():
    with pytest.raises(UserError) as error:
        check_microbatches(8, Tree.of(3, 16), perceptron())
    assert str(error.value) == "accumulate: got 8 with 16 leaves on 3 ranks; must be one of 1, 2, 4"


def test_a_layer_that_takes_several_leaves_at_once_bounds_the_parts():
    assert allowed_microbatches(Tree.of(2, 16), with_runs()) == [1, 2]
    with pytest.raises(UserError, match=r"on 2 ranks, of which relu1 takes 4 at once; must be one of 1, 2$"):
        check_microbatches(4, Tree.of(2, 16), with_runs())
    check_microbatches(1, Tree.of(16, 16), with_runs())


def test_the_layer_is_named_that_takes_the_most_leaves_and_one_number_is_no_choice():
    graph = with_runs(relu1=4, sigmoid2=16)
    with pytest.raises(UserError, match=r"on 2 ranks, of which sigmoid2 takes 16 at once; must be 1$"):
        check_microbatches(2, Tree.of(2, 16), graph)
