"""What layers cost: measured, interpolated, or by the machine's figures."""

import math
from dataclasses import astuple, replace

import pytest

from engine.graph import Graph
from engine.graph.passes.fusion import fuse
from engine.models import MODELS
from engine.planner.balance import computation
from engine.planner.cluster import Cluster, Kernel, Machine, read_cluster
from engine.planner.costs import Costs, load_problem, loss_problem, problem
from engine.profile.recorder import Recorder
from engine.profile.timed_layer import timed
from layers.batch_norm import BatchNorm
from layers.conv2d import Conv2d
from layers.depthwise_conv2d import DepthwiseConv2d
from layers.fused_conv2d import Conv2dReLU, Conv2dReLUPool
from layers.group_norm import GroupNorm
from layers.layer_norm import LayerNorm
from layers.linear import Linear
from layers.relu import ReLU

FC, FEATURES = Linear(256), ((512,),)
CONV, IMAGE = Conv2d(64, 3, padding=1), ((32, 20, 20),)


def machine(**fields) -> Cluster:
    """Return a machine of 8 cores, 1 TFLOP/s and 100 GB/s, and what else is wanted of it."""
    same = {"convolution_efficiency": 0.5, "weight_gradient_efficiency": 0.25}
    described = {"cores": 8, "flops_per_s": 1e12, "memory_bytes_per_s": 1e11, "memory_bytes": 1e10} | same
    return replace(read_cluster("cori_phase1"), machine=Machine(**(described | fields)))


def measured(*rows: tuple[int, int, float]) -> Cluster:
    """Return a machine with kernels measured for samples and threads: a time, twice and three times of it."""
    kernels = (Kernel(problem(FC, FEATURES), n, t, s, 2 * s, 3 * s) for n, t, s in rows)
    return replace(machine(), kernels=tuple(kernels))


def forward(cluster: Cluster, samples: int, threads: int = 8) -> float:
    found = Costs(cluster, threads=threads).passes(FC, FEATURES, samples)
    assert astuple(found)[1:] == pytest.approx((2 * found.forward, 3 * found.forward))
    return found.forward


def test_what_was_measured_is_returned_as_it_was():
    cluster = measured((4, 8, 1e-3), (8, 8, 3e-3), (8, 2, 1.0))
    assert forward(cluster, 4) == 1e-3
    assert forward(cluster, 8) == 3e-3
    assert forward(cluster, 8, threads=2) == 1.0


def test_between_two_measurements_time_is_a_straight_line():
    assert forward(measured((4, 8, 1e-3), (8, 8, 3e-3)), 5) == pytest.approx(1.5e-3)


def test_beyond_the_measurements_time_grows_as_the_nominal_one():
    plain = Costs(machine(fully_connected_efficiency=0.7), threads=8)
    nominal = {n: plain.passes(FC, FEATURES, n) for n in (2, 8, 4096, 8192)}
    cluster = measured((8, 8, 1e-3), (4096, 8, 1.0))
    costs = Costs(replace(cluster, machine=machine(fully_connected_efficiency=0.7).machine), threads=8)
    below, above = costs.passes(FC, FEATURES, 2), costs.passes(FC, FEATURES, 8192)
    assert below.forward == pytest.approx(1e-3 * nominal[2].forward / nominal[8].forward)
    assert above.backward_data == pytest.approx(
        3.0 * nominal[8192].backward_data / nominal[4096].backward_data
    )
    assert above.forward == pytest.approx(2.0)  # bound by multiply-adds: twice the samples, twice the time


def test_measurements_with_other_threads_are_scaled():
    assert forward(measured((4096, 8, 1e-3)), 4096, threads=2) == pytest.approx(4e-3)


def test_other_layers_are_not_the_measured_one():
    costs = Costs(measured((4, 8, 1e3)), threads=8)
    assert costs.passes(Linear(257), FEATURES, 4).forward < 1
    assert costs.passes(FC, ((511,),), 4).forward < 1
    assert costs.passes(FC, FEATURES, 4).forward == 1e3


def test_a_problem_does_not_know_names_or_initial_weights():
    assert problem(Linear(7, gain=1.0), ((5,),)) == problem(Linear(7), ((5,),))
    assert problem(Linear(7, leaf=32), ((5,),)) != problem(Linear(7), ((5,),))
    assert problem(Conv2dReLU(CONV), IMAGE) == problem(Conv2dReLU(Conv2d(64, 3, padding=1, gain=1)), IMAGE)
    others = {problem(layer, IMAGE) for layer in (CONV, Conv2dReLU(CONV), Conv2dReLUPool(CONV), ReLU())}
    assert len(others) == 4
    assert problem(Conv2d(64, 3, algorithm="direct"), IMAGE) != problem(Conv2d(64, 3), IMAGE)


def test_a_layer_that_is_timed_costs_what_the_layer_does():
    graph = MODELS["digits"]()
    recorder = Recorder()
    nodes = tuple(replace(node, layer=timed(node, recorder)) for node in graph)
    wrapped = Graph(graph.input_shape, nodes)
    costs = Costs(machine(), threads=8)
    for plain, watched in zip(graph, wrapped, strict=True):
        inputs = graph.input_shapes(plain)
        assert costs.passes(watched.layer, inputs, 4) == costs.passes(plain.layer, inputs, 4)


def test_large_layers_run_at_their_share_of_the_peak():
    found, third = Costs(machine(), threads=8).passes(CONV, IMAGE, 64), 2 * 64 * 64 * 32 * 9 * 400
    assert computation(CONV.extents(*IMAGE), 64) == 3 * third
    assert found.forward == pytest.approx(third / 0.5e12)
    assert found.backward_weights == pytest.approx(third / 0.25e12)
    assert found.backward_data == found.forward


def test_a_fully_connected_layer_with_few_samples_reads_its_weights():
    found = Costs(machine(), threads=8).passes(Linear(4096), ((4096,),), 1)
    for seconds in astuple(found):
        assert seconds == pytest.approx(4 * 4096 * 4096 / 1e11, rel=1e-3)


def test_layers_without_multiply_adds_move_their_values():
    size = 4 * 10 * 32 * 20 * 20
    found = Costs(machine(), threads=8).passes(ReLU(), IMAGE, 10)
    assert astuple(found) == pytest.approx((2 * size / 1e11, 0, 3 * size / 1e11))  # backward reads y too
    costs = Costs(machine(), threads=8)
    assert costs.load(10, IMAGE[0]) == pytest.approx(2 * size / 1e11)
    assert costs.loss(10, 1000) == pytest.approx(3 * 4 * 10 * 1000 / 1e11)


def test_the_norms_of_a_residual_network_are_predicted_from_their_bytes():
    graph = fuse(MODELS["resnet18"]())
    fast, slow, far = (
        Costs(machine(**fields), threads=8)
        for fields in ({}, {"flops_per_s": 1e11}, {"memory_bytes_per_s": 1e10})
    )
    norms = [node for node in graph if isinstance(node.layer, BatchNorm)]
    assert len(norms) == 20
    for node in norms:
        inputs = graph.input_shapes(node)
        found, adds = fast.passes(node.layer, inputs, 16), len(inputs) - 1
        floats = (3 + adds, 2 + adds, 3 + 2 * adds)  # a sum reads what it adds, and y for ReLU's mask
        size = 4 * 16 * math.prod(inputs[0])
        assert astuple(found) == pytest.approx([size * each / 1e11 for each in floats])
        assert slow.passes(node.layer, inputs, 16) == found, "no FLOP is counted"
        assert far.passes(node.layer, inputs, 16).forward == pytest.approx(10 * found.forward)


def test_a_depthwise_convolution_takes_its_bytes_or_its_multiply_adds_whichever_is_more():
    values = 16 * 32 * 20 * 20
    small, large = (
        Costs(machine(), threads=8).passes(DepthwiseConv2d(kernel, padding=kernel // 2), IMAGE, 16)
        for kernel in (3, 11)
    )
    assert astuple(small) == pytest.approx([4 * 2 * values / 1e11] * 3)
    assert astuple(large) == pytest.approx([2 * 121 * values / 0.5e12] * 3)


def test_loading_and_loss_are_taken_as_measured():
    rows = Kernel(load_problem((3, 8, 8)), 4, 8, 0.5, 0, 0), Kernel(loss_problem(10), 4, 8, 0.25, 0, 0)
    costs = Costs(replace(machine(), kernels=rows), threads=8)
    assert (costs.load(4, (3, 8, 8)), costs.loss(4, 10)) == (0.5, 0.25)


def test_ranks_of_a_machine_share_it():
    whole = Costs(machine(), threads=8)
    half = Costs(machine(ranks=2), threads=4)
    hosts = Costs(machine(hosts=2), threads=4)
    for layer, inputs in ((CONV, IMAGE), (ReLU(), IMAGE)):
        alone, shared = whole.passes(layer, inputs, 64), half.passes(layer, inputs, 64)
        assert astuple(shared) == pytest.approx(tuple(2 * seconds for seconds in astuple(alone)))
        assert hosts.passes(layer, inputs, 64) == shared


def test_ranks_without_cores_of_their_own_take_turns_and_are_not_slower_meanwhile():
    assert Costs(machine(ranks=4), threads=8).passes(CONV, IMAGE, 64) == Costs(machine(), threads=8).passes(
        CONV, IMAGE, 64
    )


def test_cores_idle_where_there_are_fewer_tasks():
    narrow, small = Conv2d(16, 3, padding=1), ((16, 5, 5),)  # one block: a task a row and sample
    one, two = (Costs(machine(), threads=8).passes(narrow, small, n).forward for n in (1, 2))
    flop = 2 * 16 * 16 * 9 * 25
    assert one == pytest.approx(flop / (0.5e12 * 5 / 8))
    assert two == pytest.approx(2 * flop / (0.5e12 * 10 / 16))


@pytest.mark.parametrize(
    ("layer", "shape", "floats"),
    [
        (BatchNorm(), (32, 20, 20), (3, 2, 3)),  # x twice and y; x and dy; x, dy and dx
        (GroupNorm(4), (32, 20, 20), (3, 2, 3)),
        (LayerNorm(), (512,), (2, 2, 3)),
    ],
    ids=str,
)
def test_normalisations_are_bound_by_memory(layer, shape, floats):
    found = Costs(machine(), threads=8).passes(layer, (shape,), 10)
    seconds = 10 * 4 * math.prod(shape) / 1e11
    assert astuple(found) == pytest.approx([each * seconds for each in floats])
