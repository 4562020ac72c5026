"""Search the best design point of a network on a cluster: equations rule plans out, simulations decide."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from comm.tree import ceil_div, is_power_of_two, next_power_of_two, previous_power_of_two
from engine.config.errors import UserError
from engine.config.wording import counted
from engine.graph import Graph
from engine.graph.parallel.plan import Plan
from engine.graph.passes.convolution import set_convolutions
from engine.graph.passes.fusion import fuse
from engine.graph.passes.precision import set_precision
from engine.planner.cluster import Channel, Cluster
from engine.planner.costs import Costs
from engine.planner.design import Design
from engine.planner.plans import Training, default_threads, estimate, most_samples, ranked
from engine.planner.simulation.simulator import Prediction, is_symmetric, simulate

PROMISING = 4
"""Plans that are simulated: those with the shortest steps by the balance equations."""

FEWEST_LEAVES = 16
_WORTH = 0.01  # share of the step that a variant must save to displace the default
_MOST_THOROUGH = 4  # ranks simulated one by one, a second or so each; above it, fewer design points
_MOST_SIMULATED = 8  # ranks simulated one by one; above it, the slowest stand for all
_VARIANTS: tuple[Callable[[Design], Design], ...] = (
    lambda design: replace(design, prioritised=False),
    lambda design: replace(design, bucket_floats=0),
    lambda design: replace(design, bucket_floats=design.bucket_floats << 4),
    lambda design: replace(design, chunk_floats=design.chunk_floats >> 2),
    lambda design: replace(design, chunk_floats=design.chunk_floats << 2),
)
"""Changes of the default schedule and message sizes, tried one at a time."""

COMPUTE, BANDWIDTH, LATENCY, IMBALANCE = "compute", "bandwidth", "latency", "imbalance"
_UNEVEN = 1.2  # compute of the slowest rank over the mean, above which imbalance is the bound


@dataclass(frozen=True)
class Point:
    """A design point and its predicted performance."""

    design: Design
    prediction: Prediction

    @property
    def step_seconds(self) -> float:
        """Predicted time of a training step."""
        return self.prediction.step_seconds

    @property
    def samples_per_second(self) -> float:
        """Throughput of all ranks together."""
        return self.design.batch / self.step_seconds


def default_leaves(ranks: int) -> int:
    """Return the default number of leaves: the smallest power of two for these ranks, at least 16."""
    return max(FEWEST_LEAVES, next_power_of_two(ranks))


def check_minibatch(ranks: int, batch: int, leaves: int) -> None:
    """Raise UserError if the minibatch does not divide over the ranks and leaves."""
    if batch < ranks:
        raise UserError(
            f"batch: {batch} samples are too few for {ranks} ranks, each of which must have one; use at most "
            f"{batch} ranks, or a minibatch of {ranks} or more"
        )
    if leaves < ranks or not is_power_of_two(leaves):
        raise UserError(
            f"leaves: got {leaves}; must be a power of two and at least {ranks}, one for each rank"
        )
    if batch % leaves:
        below, above = batch // leaves * leaves, ceil_div(batch, leaves) * leaves
        mend = f"use {below} or {above}" if below else f"use {above}"
        raise UserError(
            f"batch: {batch} does not divide into {leaves} leaves, for {counted(ranks, 'rank')}; {mend} "
            "samples"
        )


def starting_point(
    model: str, nodes: int, batch: int, cluster: Cluster, *, leaves: int = 0, plan: Plan | None = None
) -> Design:
    """Return the engine's default design, data parallel unless a plan is given.

    Parameters
    ----------
    leaves
        0 for `default_leaves`.

    Raises
    ------
    UserError
        See `check_minibatch`.
    """
    ranks = nodes * cluster.machine.ranks
    leaves = leaves or default_leaves(ranks)
    check_minibatch(ranks, batch, leaves)
    return Design(model, ranks, batch, leaves, plan or Plan(), default_threads(cluster, ranks))


def promising(design: Design, cluster: Cluster, *, most: int = PROMISING) -> list[Plan]:
    """Return the plans with the shortest steps by the balance equations, the best first."""
    costs = Costs(cluster, threads=design.threads)
    return ranked(assembled(design), design.ranks, design.batch, costs, training_of(design))[:most]


def training_of(design: Design) -> Training:
    """Return what a design point's steps compute and send, for the equations."""
    return Training(design.freeze, design.accumulate, design.form)


def assembled(design: Design) -> Graph:
    """Return the network with its kernels chosen and fused, before nodes are partitioned over ranks."""
    graph = set_precision(design.network(), design.precision)
    graph = set_convolutions(graph, design.conv, feature_leaves=1)
    return fuse(graph) if design.fuse else graph


def search(
    design: Design,
    cluster: Cluster,
    *,
    allowed: Sequence[Plan] | None = None,
    thorough: bool = True,
) -> list[Point]:
    """Return the design points near a starting point, the best first.

    Plans come first, with the default schedule; then, for the best of them, first come, first served instead
    of priorities, other sizes of buckets and chunks, and kernels on the core reserved for communication.
    Such a variant ranks first only if it saves more than 1 %.

    Parameters
    ----------
    allowed
        Plans to choose from; None for those of `promising`, and data parallelism.
    thorough
        Vary the schedule and message sizes too.
    """
    quick = _is_quick(design, cluster)
    if allowed is None:
        allowed = promising(design, cluster, most=PROMISING if quick else 1)
        allowed = allowed if Plan() in allowed else [*allowed, Plan()]
    points = [_simulated(replace(design, plan=plan), cluster) for plan in allowed]
    best = min(points, key=_step)
    if thorough and quick and design.ranks > 1:
        variants = [change(best.design) for change in _VARIANTS]
        if (every := default_threads(cluster, 1)) > best.design.threads:
            variants.append(replace(best.design, threads=every))
        points += [_simulated(variant, cluster) for variant in variants]
    ordered = sorted(points, key=_step)
    if ordered[0].step_seconds > (1 - _WORTH) * best.step_seconds:
        ordered.remove(best)
        ordered.insert(0, best)
    return ordered


def gains(point: Point, cluster: Cluster) -> dict[str, float]:
    """Return the share of the step that twice the compute or bandwidth or half the latency would save.

    Bandwidth includes the processor time per byte, latency the processor time per message. The balance
    equations estimate it where a simulation takes long.

    Parameters
    ----------
    cluster
        The one that the point was predicted on.
    """
    if _is_quick(point.design, cluster):
        now = point.step_seconds

        def step(where: Cluster) -> float:
            return _simulated(point.design, where).step_seconds
    else:
        graph = assembled(point.design)

        def step(where: Cluster) -> float:
            design, costs = point.design, Costs(where, threads=point.design.threads)
            asked = training_of(design)
            return estimate(graph, design.plan, design.ranks, design.batch, costs, asked).step

        now = step(cluster)

    better = {COMPUTE: _faster_machine(cluster)}
    if point.design.ranks > 1:
        better[BANDWIDTH] = _scaled_channels(cluster, bytes_per_s=2.0, processor_s_per_byte=0.5)
        better[LATENCY] = _scaled_channels(cluster, latency_s=0.5, message_s=0.5)
    return {name: 1 - step(other) / now for name, other in better.items()}


def bound(point: Point, gained: dict[str, float]) -> str:
    """Return the bottleneck of a step: the greatest gain, or imbalance if some ranks compute far more."""
    name = max(gained, key=lambda each: gained[each])
    design = point.design
    slowest = max(
        point.prediction.imbalance,
        most_samples(design.ranks, design.batch) * design.ranks / design.batch,
    )
    return IMBALANCE if name == COMPUTE and slowest > _UNEVEN else name


def starvation(point: Point, single: Point) -> float:
    """Return the processor time of a sample, over its processor time on one node."""
    return _computing(point) / _computing(single)


def _computing(point: Point) -> float:
    """Return the processor seconds of a sample's passes, on the rank that has most samples."""
    design = point.design
    return point.prediction.compute_seconds * design.threads / most_samples(design.ranks, design.batch)


def _is_quick(design: Design, cluster: Cluster) -> bool:
    """Return whether a simulation is short: of one rank for all, or of few."""
    if design.ranks <= _MOST_THOROUGH or design.ranks > _MOST_SIMULATED:
        return True
    return is_symmetric(design, _evened(cluster))


def _simulated(design: Design, cluster: Cluster) -> Point:
    """Simulate a design point; of many ranks with unequal work, only those with most.

    They have two blocks of leaves each, as all ranks have on the next lower power of two of ranks.
    """
    ranks = design.ranks
    if ranks > _MOST_SIMULATED and not is_power_of_two(ranks):
        ranks = previous_power_of_two(ranks)
    return Point(design, simulate(replace(design, ranks=ranks), _evened(cluster)))


def _evened(cluster: Cluster) -> Cluster:
    """Return the cluster with groups of machines rounded down to a power of two.

    A power of two of ranks is then symmetric, and one of them is simulated for all.
    """
    network = cluster.network
    machines = previous_power_of_two(max(network.group_machines, 1))
    return replace(cluster, network=replace(network, group_machines=min(machines, network.group_machines)))


def _step(point: Point) -> float:
    return point.step_seconds


def _faster_machine(cluster: Cluster) -> Cluster:
    """Return the cluster with twice the peak and memory bandwidth, and kernels measured at half the time."""
    machine = cluster.machine
    faster = replace(
        machine,
        flops_per_s=2 * machine.flops_per_s,
        memory_bytes_per_s=2 * machine.memory_bytes_per_s,
    )
    kernels = tuple(
        replace(
            kernel,
            forward=kernel.forward / 2,
            backward_weights=kernel.backward_weights / 2,
            backward_data=kernel.backward_data / 2,
        )
        for kernel in cluster.kernels
    )
    return replace(cluster, machine=faster, kernels=kernels)


def _scaled_channels(cluster: Cluster, **factors: float) -> Cluster:
    """Return the cluster with fields of both channels, and latency between groups, times the factors."""

    def scaled(channel: Channel) -> Channel:
        return replace(channel, **{name: getattr(channel, name) * factor for name, factor in factors.items()})

    network = cluster.network
    far = network.far_latency_s * factors.get("latency_s", 1.0)
    network = replace(network, channel=scaled(network.channel), far_latency_s=far)
    return replace(cluster, network=network, shared_memory=scaled(cluster.shared_memory))
