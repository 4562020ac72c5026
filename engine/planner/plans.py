"""Choose plans that are worth a simulation, and estimate their steps, by the balance equations."""

from dataclasses import dataclass
from math import prod
from typing import NamedTuple

from comm.tree import next_power_of_two
from engine.graph import Graph, Node
from engine.graph.parallel.plan import Plan, is_able
from engine.graph.passes.freeze import frozen_nodes
from engine.host.affinity import fair_threads
from engine.planner import balance
from engine.planner.cluster import Cluster
from engine.planner.costs import Costs
from engine.training.bucket import USUAL_FORM
from engine.training.update import UpdateForm
from layers.layer import Layer, Shape


@dataclass(frozen=True)
class Training:
    """What of a run decides how much a step computes and sends, beside network, minibatch and plan."""

    freeze: tuple[str, ...] = ()
    """Patterns of the nodes that are not trained."""
    accumulate: int = 1
    """Microbatches of a rank."""
    form: UpdateForm = USUAL_FORM
    """Of the update: SGD with momentum."""


USUAL = Training()


def plans(graph: Graph, ranks: int, batch: int) -> list[Plan]:
    """Return data parallelism and, for each number of parts M, up to three sets of nodes to split into M.

    The sets: the nodes for which the equations count fewer bytes that way, all fully connected ones, and all
    that can be split.
    """
    found = [Plan()]
    parts = 2
    while ranks % parts == 0:
        able = [node for node in graph if is_able(graph, node, parts)]
        fewer = [node for node in able if _saves_bytes(graph, node, batch, ranks, parts)]
        connected = [node for node in able if _is_fully_connected(graph, node)]
        for nodes in (fewer, connected, able):
            plan = Plan({node.name: parts for node in nodes})
            if plan not in found:
                found.append(plan)
        parts *= 2
    return found


def least_bytes(graph: Graph, ranks: int, batch: int) -> Plan:
    """Return the plan with the fewest bytes a rank by the equations: the paper's own choice."""
    return min(plans(graph, ranks, batch), key=lambda plan: bytes_moved(graph, plan, ranks, batch))


def bytes_moved(graph: Graph, plan: Plan, ranks: int, batch: int) -> float:
    """Return the bytes that a rank sends and receives in a step by the equations, without overlap."""
    total = 0.0
    for node in graph:
        layer = node.layer.extents(*graph.input_shapes(node))
        if layer is not None and ranks > 1:
            total += balance.hybrid(layer, batch, ranks, ranks // plan.split.get(node.name, 1))
    return total


@dataclass(frozen=True)
class Estimate:
    """A step by the balance equations, in seconds."""

    compute: float
    inside: float
    """Activations between the ranks of a group, for which the main thread waits."""
    bubble: float
    """Gradients and weights that no computation hides."""

    @property
    def step(self) -> float:
        """All of the step."""
        return self.compute + self.inside + self.bubble


def estimate(
    graph: Graph, plan: Plan, ranks: int, batch: int, costs: Costs, training: Training = USUAL
) -> Estimate:
    """Estimate a step with a plan, on the rank with most samples.

    The equations are the paper's; messages cost what they do in the engine's recursive halving, whose first
    levels lie inside a host. Where the communication thread has no core of its own, its work is computation.
    Frozen layers have no gradient and no message, and no backward pass where none is trained before them.
    """
    software = costs.cluster.software
    updating = training.form.streams / USUAL_FORM.streams / software.update_bytes_per_s
    frozen, learning = frozen_nodes(graph, training.freeze), set[str]()
    compute, between = list[float](), list[float]()  # of each layer
    inside = thread = 0.0
    for node in graph:
        parts = plan.split.get(node.name, 1)
        layer, inputs = node.layer if parts == 1 else node.layer.shard(parts)[0], graph.input_shapes(node)
        samples = parts * most_samples(ranks, batch)
        floats = 0 if node.name in frozen else _floats(layer, inputs)
        has_gradient = not learning.isdisjoint(node.inputs)
        if floats or has_gradient:
            learning.update(node.outputs)
        passes = costs.passes(layer, inputs, samples // training.accumulate)
        once = passes.forward + passes.backward_weights * bool(floats) + passes.backward_data * has_gradient
        adding = costs.add((training.accumulate - 1) * floats)
        compute.append(training.accumulate * once + adding)
        weights = balance.FLOAT * floats
        reduced = _halving(costs.cluster, weights, ranks // parts, parts)
        between.append(2 * reduced.seconds)
        thread += 2 * reduced.thread + weights * parts / ranks * updating
        if parts > 1:
            spread = _halving(costs.cluster, balance.FLOAT * samples * prod(inputs[0]), parts, 1)
            inside += 2 * spread.seconds
            thread += 2 * spread.thread
    if _fills_cores(costs.cluster, costs.threads):
        compute.append(thread / costs.threads)
        between.append(0.0)
    bubble = balance.exposed(compute, between, flops_per_s=1.0, bytes_per_s=1.0)
    return Estimate(sum(compute), inside, bubble)


def ranked(graph: Graph, ranks: int, batch: int, costs: Costs, training: Training = USUAL) -> list[Plan]:
    """Return all plans by the length of their steps, the shortest first; of equal ones, fewest parts."""
    return sorted(
        plans(graph, ranks, batch),
        key=lambda plan: (estimate(graph, plan, ranks, batch, costs, training).step, plan.parts),
    )


def default_threads(cluster: Cluster, ranks: int) -> int:
    """Return the kernel threads of a rank as the engine chooses them."""
    machine = cluster.machine
    return fair_threads(machine.cores, machine.ranks * machine.hosts, beside=ranks > 1)


def most_samples(ranks: int, batch: int) -> int:
    """Return the samples of the first rank: where ranks are no power of two, it has two blocks of leaves."""
    blocks = next_power_of_two(ranks)
    return batch // blocks * (1 if blocks == ranks else 2)


class _Halving(NamedTuple):
    seconds: float
    thread: float
    """Of these, the seconds in which the communication thread works."""


def _halving(cluster: Cluster, count: float, ranks: int, stride: int) -> _Halving:
    """Return the time of a recursive halving, or doubling, of `count` bytes over ranks `stride` apart."""
    here, seconds, thread, distance = cluster.machine.ranks, 0.0, 0.0, stride
    for _ in range((ranks - 1).bit_length()):
        count /= 2
        near = distance < here
        channel = cluster.shared_memory if near else cluster.network.channel
        link = count / channel.bytes_per_s * (1 if near else min(here, ranks * stride))
        adding = 0.5 / cluster.software.add_bytes_per_s  # only one of the two ways adds
        work = channel.message_s + count * (2 * channel.processor_s_per_byte + adding)
        seconds += channel.latency_s + max(link, work)
        thread += work
        distance *= 2
    return _Halving(seconds, thread)


def _fills_cores(cluster: Cluster, threads: int) -> bool:
    machine = cluster.machine
    return (threads + 1) * machine.ranks * machine.hosts > machine.cores


def _floats(layer: Layer, inputs: tuple[Shape, ...]) -> int:
    return sum(prod(parameter.shape) for parameter in layer.parameters(*inputs).values())


def _is_fully_connected(graph: Graph, node: Node) -> bool:
    extents = node.layer.extents(*graph.input_shapes(node))
    return extents is not None and extents.is_fully_connected


def _saves_bytes(graph: Graph, node: Node, batch: int, ranks: int, parts: int) -> bool:
    layer = node.layer.extents(*graph.input_shapes(node))
    if layer is None:
        return False
    return balance.hybrid(layer, batch, ranks, ranks // parts) < balance.hybrid(layer, batch, ranks, ranks)
