"""The plan of a recipe: as it is written, or chosen for a cluster."""

from dataclasses import replace

import pytest

from engine.config.errors import UserError
from engine.graph.parallel.plan import Plan
from engine.models import MODELS
from engine.planner.auto import DEFAULT_CLUSTER, resolve
from engine.planner.cluster import read_cluster
from engine.planner.plans import Training
from tests.engine.graphs import mixed


def test_a_plan_that_is_written_down_is_taken_and_checked():
    assert resolve("data", mixed(), ranks=5, batch=32) == Plan()
    assert resolve("fc4=2", mixed(), ranks=2, batch=32) == Plan({"fc4": 2})
    with pytest.raises(UserError, match=r"^plan: fc4=2: 3 ranks are no whole groups of 2"):
        resolve("fc4=2", mixed(), ranks=3, batch=32)


def test_without_a_cluster_auto_takes_the_default_one():
    graph = MODELS["vgg_a"]()
    named = resolve("auto", graph, ranks=16, batch=256, cluster=DEFAULT_CLUSTER)
    assert resolve("auto", graph, ranks=16, batch=256) == named
    assert named.parts > 1


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 16])
@pytest.mark.parametrize("model", MODELS)
def test_auto_is_a_plan_that_fits(model, ranks):
    graph = MODELS[model]()
    plan = resolve("auto", graph, ranks=ranks, batch=256)
    plan.check(graph, ranks)
    assert plan == resolve("auto", graph, ranks=ranks, batch=256), "the same on all ranks"
    assert ranks > 1 or plan == Plan()


def test_auto_does_not_split_what_is_frozen():
    def auto(*patterns):
        training = Training(freeze=patterns)
        return str(resolve("auto", MODELS["vgg_a"](), ranks=4, batch=64, training=training))

    assert "fc6" in auto()
    assert auto("conv*", "fc6", "fc7") == "data"


def test_auto_splits_where_the_network_of_the_cluster_wants_it(tmp_path):
    shipped = read_cluster("aws_c4_8xlarge")

    def auto(bytes_per_s, batch):
        channel = replace(shipped.network.channel, bytes_per_s=bytes_per_s, processor_s_per_byte=0.0)
        network = replace(shipped.network, channel=channel)
        path = tmp_path / "mine.toml"
        path.write_text(replace(shipped, network=network).to_toml())
        return str(resolve("auto", MODELS["vgg_a"](), ranks=4, batch=batch, cluster=str(path)))

    assert auto(1e15, 1024) == "data"
    assert auto(1e7, 32) == "fc6=4,fc7=4,fc8=4"


def test_auto_refuses_a_cluster_that_is_not_there():
    with pytest.raises(UserError, match=r'^cluster: got "cori_phase2" \(did you mean "cori_phase1"\?\)'):
        resolve("auto", mixed(), ranks=2, batch=32, cluster="cori_phase2")
