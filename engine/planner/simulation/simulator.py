"""Training steps on a cluster in simulation: the engine's schedule, run on a clock of its own.

Each rank runs the operations that `program` has taken down, and its jobs go through the same
`comm.scheduler.Scheduler` as in training. What takes time are passes over layers, which share the cores of a
machine with the communication threads, and messages, which share links (`engine.planner.simulation.links`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from engine.planner.cluster import Cluster
from engine.planner.costs import Costs
from engine.planner.design import Design
from engine.planner.simulation.events import Cores, Events
from engine.planner.simulation.links import Wires
from engine.planner.simulation.messages import Medium
from engine.planner.simulation.rank import SimulatedRank
from engine.profile.breakdown import Breakdown, combine
from engine.profile.recorder import Span
from engine.profile.span_sums import parts_of

STEPS = 4
"""Simulated: the first have no communication of a step before beside them."""

_ALONE_STEPS = 2


@dataclass(frozen=True)
class Prediction:
    """What a design point does on a cluster; seconds and bytes are of one step."""

    step_seconds: float
    breakdown: Breakdown
    compute_seconds: float
    """Of the slowest rank, if nothing had to be waited for."""
    communication_alone_seconds: float | None
    """With nothing to compute; None on one rank."""
    bytes_sent_per_rank: float
    """Of the rank that sends most."""
    ranks: tuple[tuple[Span, ...], ...]
    """The spans of each simulated rank: as those of a trace."""


def simulate(
    design: Design, cluster: Cluster, *, steps: int = STEPS, noise: float = 0.0, seed: int = 1
) -> Prediction:
    """Predict the steps of a design point.

    Where all ranks do the same at the same time, one of them is simulated and meets itself in all others;
    that is so without noise, and for powers of two. The result is deterministic.

    Parameters
    ----------
    noise
        How uneven ranks are: each pass takes longer by the absolute value of a normal variable of so large a
        standard deviation, as a share of the pass.

    Raises
    ------
    UserError, ValueError
        See `engine.planner.simulation.program.record`.
    """
    simulation = _Simulation(design, cluster, steps=steps, noise=noise, seed=seed)
    simulation.run()
    ranks = tuple(tuple(rank.spans) for rank in simulation.ranks)
    computing = max(rank.computing_seconds for rank in simulation.ranks) / steps
    alone = None
    if design.ranks > 1:
        idle = _Simulation(design, cluster, steps=_ALONE_STEPS, computes=False)
        alone = idle.run() / _ALONE_STEPS
    parts = [parts_of(spans) for spans in ranks]
    breakdown = combine(parts * design.ranks if simulation.alike else parts, alone)
    assert breakdown is not None
    return Prediction(
        breakdown.step_seconds,
        breakdown,
        computing,
        alone,
        max(rank.bytes_sent for rank in simulation.ranks) / steps,
        ranks,
    )


def are_alike(design: Design, cluster: Cluster) -> bool:
    """Return whether all ranks do the same: each has one block of leaves, and hosts and groups are full."""
    ranks, beside = design.ranks, cluster.machine.ranks * cluster.machine.hosts
    groups = max(cluster.network.group_machines, 1) * cluster.machine.ranks
    return (
        ranks & (ranks - 1) == 0
        and not (ranks % beside and beside % ranks)
        and not (ranks > groups and ranks % groups)
    )


class _Simulation:
    """Ranks on their machines, and the clock."""

    def __init__(
        self,
        design: Design,
        cluster: Cluster,
        *,
        steps: int,
        noise: float = 0.0,
        seed: int = 0,
        computes: bool = True,
    ):
        self.alike = not noise and are_alike(design, cluster)
        self.events = Events()
        medium = Medium(self.events, Wires(cluster, alike=self.alike), alike=self.alike)
        costs = Costs(cluster, threads=design.threads)
        beside = min(cluster.machine.ranks * cluster.machine.hosts, design.ranks)
        here, copies = (1, beside) if self.alike else (design.ranks, 1)
        machines = [Cores(self.events, cluster.machine.cores, copies) for _ in range(-(-here // beside))]
        self.ranks = [
            SimulatedRank(
                rank,
                design,
                costs,
                medium,
                machines[rank // beside],
                steps=steps,
                slower=_slower(noise, seed, rank),
                computes=computes,
            )
            for rank in range(here)
        ]

    def run(self) -> float:
        """Let everything happen; return how long it took."""
        for rank in self.ranks:
            self.events.at(0.0, rank.go_on)
        self.events.run()
        assert all(rank.has_ended for rank in self.ranks), "ranks wait for each other"
        return max(rank.ended_s for rank in self.ranks)


def _slower(noise: float, seed: int, rank: int) -> Callable[[], float]:
    """Return what draws by how much a pass of a rank takes longer: a factor."""
    if not noise:
        return lambda: 1.0
    generator = np.random.default_rng([seed, rank])
    return lambda: 1 + abs(generator.normal(0, noise))
