"""The table of layers is the balance equations, evaluated for a network on the nodes of a cluster."""

from dataclasses import replace

import pytest

from engine.graph import GraphBuilder
from engine.models import MODELS
from engine.planner import balance
from engine.planner.cluster import read_cluster
from engine.planner.layer_balance import NetworkBalance
from layers.depthwise_conv2d import DepthwiseConv2d
from layers.relu import ReLU
from layers.work import Extents

AWS = read_cluster("aws_c4_8xlarge")


def vgg(nodes: int, batch: int = 256) -> NetworkBalance:
    return NetworkBalance.of(MODELS["vgg_a"](), AWS, nodes=nodes, batch=batch)


def test_a_row_holds_the_equations_of_its_layer():
    table = vgg(16)
    fc6, extents = table.layers[8], Extents(25088, 4096)
    assert fc6.name == "fc6"
    assert fc6.flop == balance.computation(extents, 16)
    assert fc6.bytes == 4 * 25088 * 4096
    assert fc6.flop_per_byte == 1.5 * 16
    assert fc6.prefers_model_parallel
    assert fc6.best_groups == max(1.0, balance.best_groups(extents, 256, 16))
    assert sum(layer.flop for layer in table.layers) == pytest.approx(16 * 45.7e9, rel=2e-3)


def test_layers_below_the_platforms_ratio_are_marked():
    table = vgg(16)
    assert table.platform_flop_per_byte == 1.670e12 / 1.19e9
    marked = {line.split()[0] for line in table.lines() if " * " in line and line.startswith(("conv", "fc"))}
    assert marked == {"fc6", "fc7", "fc8"}


def test_the_longest_wait_is_the_exposed_communication():
    table = vgg(64)
    assert table.exposed_s == max(layer.bubble_s for layer in table.layers) > 0
    assert table.efficiency == table.compute_s / (table.compute_s + table.exposed_s)


def test_one_node_sends_nothing_and_has_one_group():
    table = vgg(1)
    assert {(layer.bytes, layer.bubble_s, layer.best_groups) for layer in table.layers} == {(0.0, 0.0, 1.0)}
    assert table.efficiency == 1


def test_groups_are_at_most_the_nodes():
    assert vgg(16).layers[0].best_groups == 16


def test_hosts_of_one_machine_share_its_cores():
    shared = replace(AWS, machine=replace(AWS.machine, hosts=2))
    found = NetworkBalance.of(MODELS["vgg_a"](), shared, nodes=16, batch=256)
    assert found.platform_flop_per_byte == vgg(16).platform_flop_per_byte / 2
    assert found.compute_s == 2 * vgg(16).compute_s


def test_norms_take_as_long_as_their_bytes_at_the_memorys_bandwidth():
    table = NetworkBalance.of(MODELS["resnet18"](), AWS, nodes=4, batch=64)
    rows = {layer.name: layer for layer in table.layers}
    values = 16 * 64 * 112 * 112
    norm, conv = rows["norm1"], rows["conv1"]
    assert norm.moved_bytes == 4 * 8 * values, "x is read twice forward, x and dy twice backward"
    assert norm.compute_s == norm.moved_bytes / AWS.machine.memory_bytes_per_s
    assert (norm.flop, norm.flop_per_byte, norm.bytes) == (0, 0, 4 * 2 * 64)
    assert (norm.prefers_model_parallel, norm.best_groups) == (False, 4)
    assert (conv.moved_bytes, conv.compute_s) == (0, conv.flop / AWS.machine.flops_per_s)
    moved = sum(layer.compute_s for layer in table.layers if layer.flop == 0)
    assert moved < table.memory_s < 1.1 * moved, "and the pooling, which has no weights"
    everything = sum(layer.compute_s for layer in table.layers)
    assert table.compute_s - everything == pytest.approx(table.memory_s - moved)
    (line,) = (line for line in table.lines() if line.startswith("norm1 "))
    shown = ["norm1", "0.00", f"{norm.moved_bytes / 1e6:.1f}", "MB", f"{norm.compute_s * 1e3:.2f}", "ms"]
    assert line.split()[:6] == shown


def test_a_depthwise_convolution_is_bound_by_memory_unless_its_kernel_is_large():
    def row(kernel):
        net = GraphBuilder((32, 28, 28))
        net.add("depthwise", DepthwiseConv2d(kernel, padding=kernel // 2))
        (found,) = NetworkBalance.of(net.graph(), AWS, nodes=1, batch=8).layers
        return found

    assert row(3).compute_s == row(3).moved_bytes / AWS.machine.memory_bytes_per_s
    assert row(3).flop == 3 * 2 * 8 * 9 * 32 * 28 * 28
    assert row(15).compute_s == row(15).flop / AWS.machine.flops_per_s


def test_a_network_that_multiplies_nothing_has_no_rows_and_waits_for_nothing():
    net = GraphBuilder((8,))
    net.add("relu", ReLU())
    table = NetworkBalance.of(net.graph(), AWS, nodes=2, batch=4)
    assert (table.layers, table.exposed_s, table.efficiency) == ((), 0.0, 1.0)
    assert table.lines()
