"""The memory of a design point: what a rank holds, and whether the ranks of a node have room for it."""

import math
from dataclasses import dataclass, replace

from comm.tree import Tree
from engine.config.wording import counted
from engine.data.loader import DEPTH
from engine.planner.balance import FLOAT
from engine.planner.cluster import Cluster
from engine.planner.design import Design
from engine.training.microbatches import allowed_microbatches
from engine.training.planned_memory import PlannedMemory, planned_memory
from layers.precision import BF16

_GB = 1e9


@dataclass(frozen=True)
class DesignMemory:
    """Bytes of the rank with most samples, and of its node."""

    planned: PlannedMemory
    minibatches: int
    """Being read ahead, or microbatches where the design accumulates."""
    working: int
    """Working memory, as far as it counts: layers of bf16 fill nearly all of theirs, others little."""
    ranks: int
    """On a node."""
    node_bytes: float
    """Memory of a node."""
    accumulate: int
    fitting: int | None
    """The fewest microbatches with which the ranks of a node fit; None where none do."""

    @property
    def rank_bytes(self) -> int:
        """All that a rank holds for its steps."""
        return self.planned.parameters + self.planned.values + self.minibatches + self.working

    @property
    def fits(self) -> bool:
        """Whether the ranks of a node have room."""
        return self.ranks * self.rank_bytes <= self.node_bytes

    def line(self) -> str:
        """Return what a rank holds, as a line of a report."""
        each = f", for one of {self.accumulate} microbatches" * (self.accumulate > 1)
        working = f", {_size(self.working)} working memory" * (self.working > 0)
        return (
            f"{_size(self.rank_bytes)} a rank{each}: {_size(self.planned.parameters)} weights, gradients "
            f"and momentum, {_size(self.planned.values)} values, {_size(self.minibatches)} minibatches"
            f"{working}; a node has {_size(self.node_bytes)} for {counted(self.ranks, 'rank')}"
        )

    def warning(self) -> str | None:
        """Return what is wrong, with the number of microbatches that would do; None where all fits."""
        if self.fits:
            return None
        mend = f"--accumulate {self.fitting} fits" if self.fitting else "use more nodes, or a smaller --batch"
        return (
            f"{counted(self.ranks, 'rank')} on a node need {_size(self.ranks * self.rank_bytes)} of its "
            f"{_size(self.node_bytes)}: {mend}"
        )


def memory_of(design: Design, cluster: Cluster) -> DesignMemory:
    """Return the memory of a design point: nothing is allocated but address space."""
    machine = cluster.machine
    ranks = min(design.ranks, machine.ranks * machine.hosts)

    def cut_into(microbatches: int, fitting: int | None = None) -> DesignMemory:
        planned, minibatches = _planned(replace(design, accumulate=microbatches))
        working = planned.working if design.precision == BF16 else 0
        return DesignMemory(planned, minibatches, working, ranks, machine.memory_bytes, microbatches, fitting)

    found = cut_into(design.accumulate)
    if found.fits:
        return found
    allowed = allowed_microbatches(Tree.of(design.ranks, design.leaves), design.network())
    more = (number for number in allowed if number > design.accumulate)
    return replace(found, fitting=next((number for number in more if cut_into(number).fits), None))


def _planned(design: Design) -> tuple[PlannedMemory, int]:
    network, tree = design.network(), Tree.of(design.ranks, design.leaves)
    planned = planned_memory(network, design.rank_settings(), design.plan, tree, 0)
    samples = len(tree.leaves_of(0)) * design.batch // design.leaves // design.accumulate
    return planned, (DEPTH + 1) * samples * math.prod(network.input_shape) * FLOAT


def _size(count: float) -> str:
    return f"{count / _GB:.2f} GB" if count >= _GB / 10 else f"{count / 1e6:.1f} MB"
