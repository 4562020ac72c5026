"""Plans: how they are written, and what is wrong with those that cannot be."""

import pytest

from engine.config.errors import UserError
from engine.graph import GraphBuilder
from engine.graph.parallel.plan import Plan
from engine.graph.passes.convolution import set_convolutions
from engine.planner.plans import plans
from layers.layer import State
from layers.linear import Linear
from tests.engine.graphs import convolutional, mixed


class StatefulLinear(Linear):
    def state(self, *inputs):
        return {"mean": State((self.out_features,))}


def stateful():
    net = GraphBuilder((12,))
    net.add("fc1", StatefulLinear(256))
    net.add("fc2", Linear(256))
    return net.graph()


def test_a_plan_names_nodes_and_their_parts():
    assert Plan.parse("data") == Plan({})
    assert Plan.parse("data").parts == 1
    assert Plan.parse(" fc6=2, fc7 = 2 ") == Plan({"fc6": 2, "fc7": 2})
    assert Plan.parse("fc6=4").parts == 4
    assert Plan.parse("fc6=1,fc7=1") == Plan.parse("data")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("magic", r'^plan: got "magic", in it "magic"; must be "data", "auto", or nodes with their parts'),
        ("", r'^plan: got "", in it ""'),
        ("fc6=", r'in it "fc6="'),
        ("fc6=two", r'in it "fc6=two"'),
        ("fc6=0", r'in it "fc6=0"'),
        ("fc6=-2", r'in it "fc6=-2"'),
        ("fc6=2,", r'got "fc6=2,", in it ""'),
        ("fc6=2,fc6=4", r"names fc6 twice"),
        ("fc6=2,fc7=4", r"all split nodes must have the same number of parts"),
    ],
)
def test_another_form_is_refused_and_said(text, message):
    with pytest.raises(UserError, match=message):
        Plan.parse(text)


@pytest.mark.parametrize(
    ("plan", "ranks", "message"),
    [
        ("fc9=2", 2, r"^plan: no node fc9; this model can split fc4, fc5$"),
        ("fc9=1", 2, r"^plan: no node fc9; this model can split fc4, fc5$"),
        ("pool3=2", 2, r"^plan: pool3=2: MaxPool cannot be split by its output features$"),
        ("relu4=2", 2, r"^plan: relu4=2: ReLU cannot be split"),
        ("fc4=3", 3, r"^plan: fc4=3: 3 parts; must be a power of two$"),
        ("fc4=4", 2, r"^plan: fc4=4: 4 parts need at least 4 ranks, got 2$"),
        ("fc4=4", 6, r"^plan: fc4=4: 6 ranks are no whole groups of 4; must be a multiple of 4$"),
        ("fc6=2", 2, r"^plan: fc6=2: out_features=10 has 1 feature leaves, which 2 parts cannot share"),
    ],
)
def test_a_plan_that_does_not_fit_graph_or_ranks_is_refused(plan, ranks, message):
    with pytest.raises(UserError, match=message):
        Plan.parse(plan).check(mixed(), ranks)


@pytest.mark.parametrize(
    ("plan", "feature_leaves", "message"),
    [
        (
            "conv1=2",
            1,
            r"^plan: conv1=2: conv_feature_leaves=1 is less than the 2 parts; must be at least 2$",
        ),
        (
            "conv5=4",
            2,
            r"^plan: conv5=4: conv_feature_leaves=2 is less than the 4 parts; must be at least 4$",
        ),
        ("conv2=32", 32, r"^plan: conv2=32: out_channels=64 has no 32 runs of whole vectors of \d+ channels"),
        ("fc8=2", 4, r"^plan: no node fc8; this model can split conv1, conv2, conv3, conv4, conv5, fc6$"),
        ("fc8=2", 1, r"^plan: no node fc8; this model can split fc6$"),
    ],
)
def test_a_plan_that_does_not_fit_the_convolutions_is_refused(plan, feature_leaves, message):
    graph = set_convolutions(convolutional(), "auto", feature_leaves)
    with pytest.raises(UserError, match=message):
        Plan.parse(plan).check(graph, 32)


def test_a_plan_that_fits_is_accepted():
    Plan.parse("fc4=2,fc5=2").check(mixed(), 6)
    Plan.parse("data").check(mixed(), 5)


def test_a_layer_with_state_cannot_be_split():
    graph = stateful()
    message = r"^plan: fc1=2: its layer has state, which cannot be split$"
    with pytest.raises(UserError, match=message):
        Plan.parse("fc1=2").check(graph, 2)
    Plan.parse("fc2=2").check(graph, 2)
    with pytest.raises(UserError, match=r"^plan: no node fc9; this model can split fc2$"):
        Plan.parse("fc9=2").check(graph, 2)
    assert {str(plan) for plan in plans(graph, 2, 32)} == {"data", "fc2=2"}
