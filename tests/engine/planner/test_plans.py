"""Plans worth a simulation, and what the equations say of them."""

from itertools import pairwise

import pytest

from engine.graph.passes.convolution import set_convolutions
from engine.graph.passes.fusion import fuse
from engine.models import MODELS
from engine.planner.cluster import Channel, read_cluster
from engine.planner.costs import Costs
from engine.planner.plans import (
    Training,
    default_threads,
    estimate,
    least_bytes,
    most_samples,
    plans,
    ranked,
)
from engine.planner.search import starting_point
from engine.planner.simulation.simulator import simulate
from engine.training.update import UpdateForm
from tests.engine.graphs import mixed
from tests.engine.planner.clusters import cluster

SLOW = Channel(latency_s=1e-3, bytes_per_s=1e7)


@pytest.mark.parametrize("ranks", [1, 2, 6, 16, 128])
@pytest.mark.parametrize("model", MODELS)
def test_every_plan_fits_graph_and_ranks_and_none_comes_twice(model, ranks):
    graph = MODELS[model]()
    found = plans(graph, ranks, 512)
    assert len({str(plan) for plan in found}) == len(found)
    assert str(found[0]) == "data"
    assert (
        len(found) > 1
        or ranks == 1
        or model in ("airbench94", "cifar10", "fashion_mnist", "resnet9", "speech_digits")
    )
    for plan in found:
        plan.check(graph, ranks)


def test_convolutions_are_split_where_the_equations_say_so_and_the_sums_are_cut():
    graph = fuse(set_convolutions(MODELS["vgg_a"](), "auto", 4))
    found = {str(plan) for plan in plans(graph, 16, 64)}
    fully_connected = "fc6=4,fc7=4,fc8=4"
    assert {fully_connected, f"conv5_1=4,conv5_2=4,{fully_connected}"} < found
    assert not any("conv" in str(plan) for plan in plans(fuse(MODELS["vgg_a"]()), 16, 64))


def test_the_plan_of_least_bytes_is_that_of_the_equations():
    graph = MODELS["vgg_a"]()

    def chosen(ranks, batch):
        return str(least_bytes(graph, ranks, batch))

    assert chosen(1, 32) == chosen(3, 32) == "data"
    assert chosen(2, 32) == "fc6=2,fc7=2,fc8=2"
    assert chosen(4, 32) == "fc6=4,fc7=4,fc8=4"  # ofm is greater than the minibatch: one group
    assert chosen(16, 2048) == "fc6=4,fc7=4,fc8=4"  # 2.8 groups are best for fc6 and fc7, 5.7 for fc8
    assert str(least_bytes(mixed(), 2, 1 << 16)) == "data"


def test_without_communication_a_step_is_its_computation():
    graph, costs = MODELS["vgg_a"](), Costs(cluster(cores=4), threads=1)
    alone = estimate(graph, plans(graph, 1, 64)[0], 1, 64, costs)
    assert alone.step == alone.compute > 0
    shared = [estimate(graph, plan, 4, 64, costs) for plan in plans(graph, 4, 64)]
    assert [each.step for each in shared] == pytest.approx([alone.step / 4] * len(shared), rel=1e-3)


def test_frozen_layers_have_no_gradient_and_no_message_nor_a_backward_pass_below_what_is_trained():
    graph, costs = fuse(MODELS["vgg_a"]()), Costs(cluster(network=SLOW, cores=4), threads=1)
    data = plans(graph, 4, 64)[0]

    def found(*patterns):
        return estimate(graph, data, 4, 64, costs, Training(freeze=patterns))

    passes = {node.name: costs.passes(node.layer, graph.input_shapes(node), 16) for node in graph}
    forward = sum(each.forward for each in passes.values())
    backward = sum(each.backward_weights + each.backward_data for each in passes.values())
    whole, head = found(), found("conv*", "fc6", "fc7")
    assert whole.compute == pytest.approx(forward + backward - passes["conv1_1"].backward_data)
    assert head.compute == pytest.approx(forward + passes["fc8"].backward_weights)
    assert head.bubble < 0.05 * whole.bubble, "fc8 has 3 % of the weights"
    saved = passes["conv1_1"].backward_weights + passes["conv2_1"].backward_data
    assert whole.compute - found("conv1_1").compute == pytest.approx(saved)
    assert whole.compute - found("fc7").compute == pytest.approx(passes["fc7"].backward_weights)


def test_microbatches_read_weights_once_each_and_add_their_gradients():
    graph, costs = MODELS["cd_dnn"](), Costs(read_cluster("aws_c4_8xlarge"), threads=4)
    data = plans(graph, 1, 64)[0]
    once, four = (estimate(graph, data, 1, 64, costs, Training(accumulate=each)) for each in (1, 4))
    passes = [costs.passes(node.layer, graph.input_shapes(node), 16) for node in graph]
    cut = sum(each.forward + each.backward_weights + each.backward_data for each in passes)
    learning = [node for node in graph if node.layer.parameters(*graph.input_shapes(node))]
    below = sum(each.backward_data for each in passes[: graph.nodes.index(learning[0]) + 1])
    assert four.compute == pytest.approx(4 * (cut - below) + costs.add(3 * graph.parameter_count()))
    assert four.compute > 1.2 * once.compute, "fully connected layers are their weights"


def test_what_an_optimizer_keeps_makes_updates_longer_where_they_take_from_the_kernels():
    graph, costs = MODELS["cd_dnn"](), Costs(cluster(cores=1), threads=1)
    data = plans(graph, 1, 64)[0]
    usual, more = (
        estimate(graph, data, 1, 64, costs, Training(form=form)).compute
        for form in (UpdateForm(), UpdateForm(("m", "v"), averages=True))
    )
    update = 4 * graph.parameter_count() / costs.cluster.software.update_bytes_per_s
    assert more - usual == pytest.approx(update * (9 / 5 - 1))


def test_a_slow_network_makes_bubbles_and_splitting_layers_makes_them_smaller():
    graph, costs = MODELS["vgg_a"](), Costs(cluster(network=SLOW), threads=1)
    data, *others = (estimate(graph, plan, 4, 64, costs) for plan in plans(graph, 4, 64))
    assert data.inside == 0
    assert data.bubble > 10.0, "0.8 GB at 10 MB/s"
    assert all(other.inside > 0 and other.bubble < data.bubble for other in others)


def test_what_lies_inside_a_host_does_not_cross_its_link():
    graph, far, near = MODELS["cd_dnn"](), cluster(network=SLOW), cluster(network=SLOW, ranks=4)
    plan = plans(graph, 4, 64)[-1]
    assert estimate(graph, plan, 4, 64, Costs(far, threads=1)).inside > 0.1
    assert estimate(graph, plan, 4, 64, Costs(near, threads=1)).inside < 1e-9


def test_the_communication_thread_takes_from_kernels_that_fill_all_cores():
    graph, busy = MODELS["cd_dnn"](), Channel(0.0, 1e30, processor_s_per_byte=1e-9)
    plan = plans(graph, 2, 64)[0]
    spare, full = (
        estimate(graph, plan, 2, 64, Costs(where, threads=1)).compute
        for where in (cluster(network=busy, cores=cores, flops_per_s=cores * 1e12) for cores in (2, 1))
    )
    sent = 2 * 4 * graph.parameter_count() / 2
    assert full - spare == pytest.approx(2 * sent * 1e-9, rel=0.01)


@pytest.mark.parametrize(
    ("name", "model", "nodes", "batch"),
    [
        ("aws_c4_8xlarge", "vgg_a", 16, 256),
        ("aws_c4_8xlarge", "cd_dnn", 4, 1024),
        ("endeavor_fdr", "cd_dnn", 16, 1024),
        ("epyc_hdr", "overfeat_fast", 8, 256),
    ],
)
def test_the_equations_rank_plans_much_as_simulations_do(name, model, nodes, batch):
    where = read_cluster(name)
    design = starting_point(model, nodes, batch, where)
    costs = Costs(where, threads=design.threads)
    order = ranked(fuse(MODELS[model]()), design.ranks, batch, costs)
    steps = [
        simulate(starting_point(model, nodes, batch, where, plan=plan), where).step_seconds for plan in order
    ]
    assert steps[0] <= 1.1 * min(steps)
    assert min(steps[:4]) == min(steps)


def test_the_first_rank_has_two_blocks_unless_ranks_are_a_power_of_two():
    assert [most_samples(ranks, 64) for ranks in (1, 2, 3, 4, 5, 8, 12)] == [64, 32, 32, 16, 16, 8, 8]


def test_one_of_many_cores_is_left_to_communication():
    assert default_threads(cluster(cores=32), 2) == 31
    assert default_threads(cluster(cores=32), 1) == 32
    assert default_threads(cluster(cores=32, ranks=4), 4) == 8
    assert default_threads(cluster(cores=2, hosts=4), 4) == 1


def test_more_ranks_never_compute_more_each():
    graph, costs = MODELS["overfeat_fast"](), Costs(cluster(), threads=1)
    computed = [
        estimate(graph, plans(graph, ranks, 64)[0], ranks, 64, costs).compute for ranks in (1, 2, 3, 4, 5, 8)
    ]
    assert all(more >= fewer for more, fewer in pairwise(computed))
