"""Simulate training steps on a cluster: the engine's own schedule, run on a simulated clock.

Each rank runs the operations that `program` has taken down, and its jobs go through the same
`comm.scheduler.Scheduler` as in training. Passes over layers and communication threads take time on the cores
that they share (`events`), messages take time on links (`links`). `rank` turns events into instructions; the
loop here carries them out.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np

from comm.tree import ceil_div, is_power_of_two
from engine.planner.cluster import Cluster
from engine.planner.costs import Costs
from engine.planner.design import Design
from engine.planner.simulation.events import EventQueue, SharedCores
from engine.planner.simulation.instructions import Announce, Event, Instruction, Occupy, Schedule
from engine.planner.simulation.links import Links
from engine.planner.simulation.messages import Fabric
from engine.planner.simulation.rank import SimulatedRank
from engine.profile.breakdown import Breakdown, combine
from engine.profile.recorder import Span, StepSums
from engine.profile.span_sums import sum_spans

STEPS = 4
"""Simulated steps: the first ones do not overlap with communication of a step before them."""

_STEPS_ALONE = 2  # of communication alone


@dataclass(frozen=True)
class Prediction:
    """Performance of a design point on a cluster; seconds and bytes are of one step."""

    design: Design
    cluster: Cluster = field(repr=False)
    step_seconds: float
    imbalance: float
    """Compute of the slowest rank over the mean."""
    compute_seconds: float
    """Passes of the slowest rank, had nothing to be waited for and each thread a core."""
    bytes_sent_per_rank: float
    """Of the rank that sends most."""
    ranks: tuple[tuple[Span, ...], ...]
    """Spans of each simulated rank, as a trace has them; of one rank if it stands for all."""

    @cached_property
    def communication_alone_seconds(self) -> float | None:
        """Communication of a step with nothing to compute, simulated on first use; None on one rank."""
        if self.design.ranks == 1:
            return None
        simulation = _Simulation(self.design, self.cluster, steps=_STEPS_ALONE, computes=False)
        return simulation.run() / _STEPS_ALONE

    @cached_property
    def breakdown(self) -> Breakdown:
        """Where the time goes; asks for `communication_alone_seconds`."""
        return _combined(self.design, self.ranks, self.communication_alone_seconds)


def simulate(
    design: Design, cluster: Cluster, *, steps: int = STEPS, noise: float = 0.0, seed: int = 1
) -> Prediction:
    """Predict the steps of a design point; equal arguments give an equal prediction.

    Without noise, and where `is_symmetric`, all ranks do the same at the same time: one of them is simulated
    and stands for all.

    Parameters
    ----------
    noise
        Unevenness of ranks: each pass takes longer by the absolute value of a normal variable whose standard
        deviation is this share of the pass.

    Raises
    ------
    UserError, ValueError
        See `engine.planner.simulation.program.record`.
    """
    simulation = _Simulation(design, cluster, steps=steps, noise=noise, seed=seed)
    simulation.run()
    ranks = tuple(tuple(rank.spans) for rank in simulation.ranks)
    breakdown = _combined(design, ranks, None)
    return Prediction(
        design,
        cluster,
        step_seconds=breakdown.step_seconds,
        imbalance=breakdown.imbalance,
        compute_seconds=max(rank.computing_seconds for rank in simulation.ranks) / steps,
        bytes_sent_per_rank=max(rank.bytes_sent for rank in simulation.ranks) / steps,
        ranks=ranks,
    )


def is_symmetric(design: Design, cluster: Cluster) -> bool:
    """Return whether all ranks do the same: each has one block of leaves, and hosts and groups are full."""
    ranks, on_machine = design.ranks, cluster.machine.ranks * cluster.machine.hosts
    in_group = max(cluster.network.group_machines, 1) * cluster.machine.ranks
    return (
        is_power_of_two(ranks)
        and not (ranks % on_machine and on_machine % ranks)
        and not (ranks > in_group and ranks % in_group)
    )


def _combined(design: Design, ranks: tuple[tuple[Span, ...], ...], alone: float | None) -> Breakdown:
    """Return the means over all ranks, each simulated one as often as it stands for others."""
    sums: list[StepSums] = [sum_spans(spans) for spans in ranks]
    breakdown = combine(sums * (design.ranks // len(sums)), alone)
    assert breakdown is not None
    return breakdown


class _Simulation:
    """Ranks, the machines that they are on, and the loop that carries out instructions."""

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
        symmetric = not noise and is_symmetric(design, cluster)
        self._events = EventQueue()
        fabric = Fabric(Links(cluster, symmetric=symmetric), self._events.clock, symmetric=symmetric)
        costs = Costs(cluster, threads=design.threads)
        on_machine = min(cluster.machine.ranks * cluster.machine.hosts, design.ranks)
        simulated, copies = (1, on_machine) if symmetric else (design.ranks, 1)
        machines = [
            SharedCores(self._events, cluster.machine.cores, copies)
            for _ in range(ceil_div(simulated, on_machine))
        ]
        self._cores = [machines[rank // on_machine] for rank in range(simulated)]
        self.ranks = [
            SimulatedRank(
                rank,
                design,
                costs,
                fabric,
                steps=steps,
                slowdown=_slowdown(noise, seed, rank),
                computes=computes,
            )
            for rank in range(simulated)
        ]

    def run(self) -> float:
        """Run all ranks to their end; return the simulated seconds."""
        for rank in range(len(self.ranks)):
            self._carry_out(rank, Schedule(0.0, Event.GO_ON))
        self._events.run()
        assert all(rank.has_ended for rank in self.ranks), "ranks wait for each other"
        return max(rank.ended_s for rank in self.ranks)

    def _deliver(self, rank: int, event: Event) -> None:
        for instruction in self.ranks[rank].handle(event):
            self._carry_out(rank, instruction)

    def _carry_out(self, rank: int, instruction: Instruction) -> None:
        match instruction:
            case Schedule(moment, event):
                self._events.at(moment, partial(self._deliver, rank, event))
            case Occupy(seconds, threads, event):
                self._cores[rank].start(seconds, threads, partial(self._deliver, rank, event))
            case Announce(to, moment):
                self._carry_out(to, self.ranks[to].expect_message(moment))


def _slowdown(noise: float, seed: int, rank: int) -> Callable[[], float]:
    """Return a function that samples the factor by which a rank's next pass takes longer."""
    if not noise:
        return lambda: 1.0
    generator = np.random.default_rng([seed, rank])
    return lambda: 1 + abs(generator.normal(0, noise))
