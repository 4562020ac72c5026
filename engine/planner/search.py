"""The best design point of a network on a cluster: equations rule out, a simulation decides."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from engine.config.errors import UserError
from engine.config.wording import counted
from engine.graph import Graph
from engine.graph.parallel.plan import Plan
from engine.graph.passes.convolution import set_convolutions
from engine.graph.passes.fusion import fuse
from engine.planner.cluster import Channel, Cluster
from engine.planner.costs import Costs
from engine.planner.design import Design
from engine.planner.plans import default_threads, estimate, most_samples, ranked
from engine.planner.simulation.simulator import Prediction, is_symmetric, simulate

PROMISING = 4
"""Plans that are simulated: those for which the equations count the shortest steps."""

FEWEST_LEAVES = 16
_WORTH = 0.01  # a design point other than the engine's own must be better by this share
_MANY_RANKS = 4  # simulated one by one, a second or so each: then fewer design points
_MOST_UNEQUAL = 8  # ranks that are simulated one by one
_VARIANTS: tuple[Callable[[Design], Design], ...] = (
    lambda design: replace(design, prioritised=False),
    lambda design: replace(design, bucket_floats=0),
    lambda design: replace(design, bucket_floats=design.bucket_floats << 4),
    lambda design: replace(design, chunk_floats=design.chunk_floats >> 2),
    lambda design: replace(design, chunk_floats=design.chunk_floats << 2),
)
"""Schedule and fusion beside the engine's own, one thing at a time."""

COMPUTE, BANDWIDTH, LATENCY, IMBALANCE = "compute", "bandwidth", "latency", "imbalance"
_UNEVEN = 1.2  # slowest rank over the mean


@dataclass(frozen=True)
class Point:
    """A design point and what it does."""

    design: Design
    prediction: Prediction

    @property
    def step_seconds(self) -> float:
        """Of one step."""
        return self.prediction.step_seconds

    @property
    def samples_per_second(self) -> float:
        """Of all ranks."""
        return self.design.batch / self.step_seconds


def default_leaves(ranks: int) -> int:
    """Return the fewest leaves that so many ranks can have, 16 at least."""
    return max(FEWEST_LEAVES, 1 << (ranks - 1).bit_length())


def check_minibatch(ranks: int, batch: int, leaves: int) -> None:
    """Raise UserError where a minibatch cannot be spread over the ranks."""
    if batch < ranks:
        raise UserError(
            f"batch: {batch} samples are too few for {ranks} ranks, each of which must have one; use at most "
            f"{batch} ranks, or a minibatch of {ranks} or more"
        )
    if leaves < ranks or leaves & (leaves - 1):
        raise UserError(
            f"leaves: got {leaves}; must be a power of two and at least {ranks}, one for each rank"
        )
    if batch % leaves:
        below, above = batch // leaves * leaves, -(-batch // leaves) * leaves
        mend = f"use {below} or {above}" if below else f"use {above}"
        raise UserError(
            f"batch: {batch} does not divide into {leaves} leaves, for {counted(ranks, 'rank')}; {mend} "
            "samples"
        )


def starting_point(
    model: str, nodes: int, batch: int, cluster: Cluster, *, leaves: int = 0, plan: Plan | None = None
) -> Design:
    """Return the design that the engine has unasked, data parallel unless a plan is given.

    Parameters
    ----------
    leaves
        0: `default_leaves`.

    Raises
    ------
    UserError
        The minibatch does not suit the ranks.
    """
    ranks = nodes * cluster.machine.ranks
    leaves = leaves or default_leaves(ranks)
    check_minibatch(ranks, batch, leaves)
    return Design(model, ranks, batch, leaves, plan or Plan(), default_threads(cluster, ranks))


def promising(design: Design, cluster: Cluster, *, most: int = PROMISING) -> list[Plan]:
    """Return the plans with the shortest steps by the equations, the best first."""
    costs = Costs(cluster, threads=design.threads)
    return ranked(assembled(design), design.ranks, design.batch, costs)[:most]


def assembled(design: Design) -> Graph:
    """Return the network as its kernels see it, before nodes are handed to ranks."""
    graph = set_convolutions(design.network(), design.conv, feature_leaves=1)
    return fuse(graph) if design.fuse else graph


def search(
    design: Design,
    cluster: Cluster,
    *,
    allowed: Sequence[Plan] | None = None,
    thorough: bool = True,
) -> list[Point]:
    """Return the design points near a starting point, the best first.

    Plans first, with the schedule that the engine has unasked; then, for the best of them, first come first
    served, other sizes of buckets and chunks, and kernels on the core that is left to communication.
    These are best where they save more than 1 %.

    Parameters
    ----------
    allowed
        Plans to choose from; None: those that are promising, and data parallelism.
    thorough
        Look at schedule and fusion too.
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
    """Return the share of the step that would be saved by compute, bandwidth or latency twice as good.

    Bandwidth includes the processor time that each byte costs, latency that of each message. Where
    simulations take long, the equations tell.
    """
    if _is_quick(point.design, cluster):

        def step(where: Cluster) -> float:
            return _simulated(point.design, where).step_seconds
    else:
        graph = assembled(point.design)

        def step(where: Cluster) -> float:
            design, costs = point.design, Costs(where, threads=point.design.threads)
            return estimate(graph, design.plan, design.ranks, design.batch, costs).step

    better = {COMPUTE: _quicker_machine(cluster)}
    if point.design.ranks > 1:
        better[BANDWIDTH] = _channels(cluster, bytes_per_s=2.0, processor_s_per_byte=0.5)
        better[LATENCY] = _channels(cluster, latency_s=0.5, message_s=0.5)
    now = step(cluster)
    return {name: 1 - step(other) / now for name, other in better.items()}


def bound(point: Point, gained: dict[str, float]) -> str:
    """Return what bounds a step: where the gain is greatest; imbalance where some ranks compute far more."""
    name = max(gained, key=lambda each: gained[each])
    design = point.design
    slowest = max(
        point.prediction.imbalance,
        most_samples(design.ranks, design.batch) * design.ranks / design.batch,
    )
    return IMBALANCE if name == COMPUTE and slowest > _UNEVEN else name


def starved(point: Point, single: Point) -> float:
    """Return how many times the processor time a sample takes that it takes on one node."""
    return _computing(point) / _computing(single)


def _computing(point: Point) -> float:
    """Return the processor seconds of the passes, for one sample of the rank with most."""
    design = point.design
    return point.prediction.compute_seconds * design.threads / most_samples(design.ranks, design.batch)


def _is_quick(design: Design, cluster: Cluster) -> bool:
    return (
        is_symmetric(design, _evened(cluster)) or design.ranks <= _MANY_RANKS or design.ranks > _MOST_UNEQUAL
    )


def _simulated(design: Design, cluster: Cluster) -> Point:
    """Simulate a design point, many ranks of unequal work by their slowest.

    Those have two blocks of leaves each: as on the next lower power of two of ranks, which all have.
    """
    ranks = design.ranks
    if ranks > _MOST_UNEQUAL and ranks & (ranks - 1):
        ranks = 1 << (ranks.bit_length() - 1)
    return Point(design, simulate(replace(design, ranks=ranks), _evened(cluster)))


def _evened(cluster: Cluster) -> Cluster:
    """Return the cluster with groups of machines cut down to a power of two.

    Then powers of two of ranks all do the same, and one is simulated for all of them.
    """
    network = cluster.network
    machines = 1 << (max(network.group_machines, 1).bit_length() - 1)
    return replace(cluster, network=replace(network, group_machines=min(machines, network.group_machines)))


def _step(point: Point) -> float:
    return point.step_seconds


def _quicker_machine(cluster: Cluster) -> Cluster:
    machine = cluster.machine
    quicker = replace(
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
    return replace(cluster, machine=quicker, kernels=kernels)


def _channels(cluster: Cluster, **factors: float) -> Cluster:
    """Return the cluster with figures of both channels, and of the way out of a group, multiplied."""

    def scaled(channel: Channel) -> Channel:
        return replace(channel, **{name: getattr(channel, name) * factor for name, factor in factors.items()})

    network = cluster.network
    far = network.far_latency_s * factors.get("latency_s", 1.0)
    network = replace(network, channel=scaled(network.channel), far_latency_s=far)
    return replace(cluster, network=network, shared_memory=scaled(cluster.shared_memory))
