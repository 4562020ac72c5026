"""How much memory one rank will need, before a run allocates any."""

from dataclasses import dataclass

from comm.absent import AbsentCommunicator
from comm.collectives import Collectives
from comm.comm_thread import InlineCommThread
from comm.grid import Grid
from comm.tree import Tree
from engine.graph import Graph
from engine.graph.parallel.plan import Plan
from engine.host.aligned_arrays import held_bytes
from engine.training.rank import build_rank
from engine.training.rank_settings import RankSettings


@dataclass(frozen=True)
class PlannedMemory:
    """Bytes that a rank allocates for its steps, by what they are for."""

    parameters: int
    """Weights, gradients, moments and averages, and the own copies for buddies."""
    values: int
    """Of all layers, and their gradients."""
    working: int
    """Working memory of layers, which not all of them fill."""


def planned_memory(
    network: Graph, settings: RankSettings, plan: Plan, tree: Tree, rank: int
) -> PlannedMemory:
    """Count what one of `tree.ranks` ranks allocates: build it, without partners, and forget it untouched.

    Memory that nobody has touched takes address space only.

    Raises
    ------
    MemoryError
        Not even that is there.
    """
    parts = plan.parts
    group, part = divmod(rank, parts)
    world = Collectives(AbsentCommunicator(rank, tree.ranks), tree)
    grid = Grid.joined(world, AbsentCommunicator(part, parts), AbsentCommunicator(group, tree.ranks // parts))
    built = build_rank(network, settings, plan, grid, InlineCommThread())
    values, working = held_bytes(built.memory.arrays()), held_bytes(built.memory.working_arrays())
    copies = 0 if built.buddies is None else built.buddies.own_bytes
    return PlannedMemory(built.parameters.parameter_bytes + copies, values, working)
