"""Groups of samples that share statistics: how many, of which leaves, and what is said of them."""

import pytest

from engine.config.errors import UserError
from engine.graph import GraphBuilder
from engine.graph.passes.norm_groups import check_norm_groups, groups_asked, norm_groups, set_norm_groups
from engine.graph.passes.rates import set_rates
from layers.batch_norm import BatchNorm
from tests.engine.graphs import chain, normed


def own(*groups):
    net = GraphBuilder((4,))
    for index, each in enumerate(groups, start=1):
        net.add(f"norm{index}", BatchNorm(groups=each))
    return net.graph()


@pytest.mark.parametrize(
    ("batch", "leaves", "groups"),
    [
        (128, 16, 4),
        (32, 16, 1),
        (16, 16, 1),
        (64, 16, 2),
        (1024, 16, 16),
        (96, 32, 2),
        (127, 1, 1),
        (2048, 8, 8),
    ],
)
def test_unasked_there_are_the_most_that_leave_a_group_32_samples(batch, leaves, groups):
    assert groups_asked(0, batch, leaves) == groups
    assert groups_asked(8, batch, leaves) == 8


def test_layers_learn_how_many_leaves_are_a_group():
    leaves = [node.layer.group_leaves for node in set_norm_groups(own(None, 1, 8), 4, 16)]
    assert leaves == [4, 16, 2]
    assert set_norm_groups(chain(), 4, 16) == chain()


def test_where_there_are_fewer_leaves_than_groups_each_is_one():
    assert [node.layer.group_leaves for node in set_norm_groups(own(None, 8), 4, 2)] == [1, 1]


def test_more_groups_than_leaves_are_refused():
    check_norm_groups(own(None, 8), 8)
    with pytest.raises(UserError, match=r"^norm2: groups: got 8; must be a power of two up to leaves = 4$"):
        check_norm_groups(own(None, 8), 4)


def test_one_line_says_how_samples_are_grouped_if_any_are():
    assert norm_groups(chain(), 64, 8) == ""
    grouped = set_rates(set_norm_groups(normed(), 2, 8), [("norm1", 3.0)])
    assert norm_groups(grouped, 64, 8) == "batch normalisation over 2 groups of 32 samples"
    assert norm_groups(set_norm_groups(own(None, 1, 2), 2, 8), 64, 8) == (
        "batch normalisation over 2 groups of 32 samples (norm1, norm3), 1 group of 64 samples (norm2)"
    )
