"""What one rank does in a few steps, taken down from the engine's own code instead of computed.

`engine.training.step`, the passes over the graph, buckets and exchanges run as in training, on memory that
nobody touches; the passes of layers say what they cost, and jobs are kept instead of run. So the schedule is
the engine's, not a copy of it.
"""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import final

import numpy as np
from numpy.typing import NDArray

from comm.comm_thread import CommandQueue, Request
from comm.job import Job
from engine.data.loader import Batch
from engine.graph import Node
from engine.graph.parallel.exchange import Exchange, Finish, StartsBackward
from engine.graph.parallel.shared_norm import shared_inside
from engine.planner.costs import Costs
from engine.planner.design import Design, Members, build_rank_of
from engine.training.step import train_step
from engine.training.update import Update
from layers.kernels.threads import Threads
from layers.layer import Array, Buffers, Context, Layer
from layers.work import BACKWARD_DATA, BACKWARD_WEIGHTS, FORWARD
from layers.wrapped import WatchedLayer

INPUT_NODE, LOSS_NODE, LOOP_NODE = "input", "loss", "loop"
"""Names of what a step computes outside all layers."""


@dataclass(frozen=True)
class Compute:
    """A pass over a layer, on the main thread with all its workers."""

    seconds: float
    node: str
    direction: str = ""
    """One of `layers.work.PASSES`; empty for what belongs to no layer."""


@dataclass(frozen=True)
class Submit:
    """A job for the communication thread; `after` is the one that it builds on."""

    job: Job
    ticket: "Ticket"
    name: str
    priority: int
    after: Request | None


@dataclass(frozen=True)
class Wait:
    """Go on when a job has ended."""

    ticket: "Ticket"


@dataclass(frozen=True)
class EndStep:
    """A step is done."""

    number: int


Operation = Compute | Submit | Wait | EndStep


def record(design: Design, costs: Costs, members: Members, update: Update, *, steps: int) -> list[Operation]:
    """Return the operations of one rank of a design point in some steps.

    Parameters
    ----------
    update
        Of weights, called where the jobs are run.

    Raises
    ------
    UserError, ValueError
        A plan that the network or the number of ranks does not allow, or more ranks than leaves.
    """
    operations: list[Operation] = []
    rank = build_rank_of(
        design,
        members,
        _Notes(operations),
        wrap=partial(_priced, costs=costs, operations=operations),
        criterion=_PricedCriterion(costs, operations),
        copy_in=partial(_price_load, costs, operations),
    )
    samples = rank.memory.microbatches[0].rows.stop
    x = np.broadcast_to(np.float32(0), (samples, *rank.graph.input_shape))  # nobody reads it
    labels, indices = np.zeros(samples, np.int32), np.zeros(samples, np.int64)
    batches = [Batch(x, labels, indices, 0, number) for number in range(design.accumulate)]
    with closing(Threads(1)) as threads:
        run = Context(threads)
        for number in range(1, steps + 1):
            train_step(rank, batches, run, update)
            operations += [Compute(costs.cluster.software.step_s, LOOP_NODE), EndStep(number)]
    return operations


@final
class Ticket(Request):
    """A job that has been kept; to wait for it is an operation too."""

    def __init__(self, queue: "_Notes", name: str) -> None:
        super().__init__(queue, name)
        self._notes = queue

    def wait(self) -> None:
        """Take down that the main thread waits here."""
        self._notes.operations.append(Wait(self))


@final
class _Notes(CommandQueue):
    """Keeps jobs in the order of the program."""

    def __init__(self, operations: list[Operation]) -> None:
        super().__init__()
        self.operations = operations

    def submit(self, job: Job, *, name: str = "", priority: int = 0, after: Request | None = None) -> Request:
        """Keep a job."""
        ticket = Ticket(self, name)
        self.operations.append(Submit(job, ticket, name, priority, after))
        return ticket

    def close(self) -> None:
        """Return at once: nothing runs."""


def _price_load(costs: Costs, operations: list[Operation], _threads: Threads, x: Array, _into: Array) -> None:
    """Take down the copy of a minibatch into the graph's input."""
    operations.append(Compute(costs.load(len(x), x.shape[1:]), INPUT_NODE))


@final
@dataclass(frozen=True)
class _PricedCriterion:
    """A loss that is taken down instead of computed."""

    costs: Costs
    operations: list[Operation]

    def forward_backward(
        self,
        threads: Threads,
        logits: Array,
        labels: NDArray[np.int32],
        classes: int,
        scale: float,
        gradient: Array,
        losses: NDArray[np.float64],
        correct: NDArray[np.uint8],
        smoothing: float = 0.0,
        others: NDArray[np.int32] | None = None,
        shares: NDArray[np.float64] | None = None,
        weights: NDArray[np.float64] | None = None,
    ) -> None:
        """Take down the loss of the labels' samples."""
        self.operations.append(Compute(self.costs.loss(len(labels), classes), LOSS_NODE))


def _priced(node: Node, *, costs: Costs, operations: list[Operation]) -> Layer:
    """Return a node's layer with passes that are taken down; one that communicates submits its job too."""
    kind: type[_PricedLayer] = _PricedLayer
    if isinstance(node.layer, Exchange):
        kind = _PricedExchange
    elif shared_inside(node.layer) is not None:
        kind = _PricedNorm
    return kind(node.layer, node.name, costs=costs, operations=operations)


@dataclass(frozen=True)
class _PricedLayer(WatchedLayer):
    """A layer whose passes take no time here, and say how much they would elsewhere."""

    costs: Costs = field(repr=False, compare=False)
    operations: list[Operation] = field(repr=False, compare=False)

    def forward(self, at: Buffers, run: Context) -> None:
        self._note(FORWARD, at)

    def backward_weights(self, at: Buffers, run: Context) -> None:
        if at.gradients:
            self._note(BACKWARD_WEIGHTS, at)
            added = sum(total.size for partial in at.partial_sums for total, _ in partial.adds)
            if added:
                self.operations.append(Compute(self.costs.add(added), self.node, BACKWARD_WEIGHTS))

    def backward_data(self, at: Buffers, run: Context) -> None:
        self._note(BACKWARD_DATA, at)

    def update_state(
        self, state: dict[str, Array], leaf_values: Mapping[str, NDArray[np.float64]], step: int
    ) -> None:
        """Leave the state as it is: no forward pass has run."""

    def _note(self, direction: str, at: Buffers) -> None:
        passes = self.costs.passes(self.layer, at.shapes, len(at.samples))
        self.operations.append(Compute(getattr(passes, direction), self.node, direction))


@final
@dataclass(frozen=True)
class _PricedExchange(_PricedLayer):
    """An exchange: what it copies costs something, and then its job goes its way."""

    def forward(self, at: Buffers, run: Context) -> None:
        self._note(FORWARD, at)
        self.layer.forward(at, run)

    def backward_data(self, at: Buffers, run: Context) -> None:
        self.begin_backward_data(at, run)()

    def begin_backward_data(self, at: Buffers, run: Context) -> Finish:
        assert isinstance(self.layer, StartsBackward)
        self._note(BACKWARD_DATA, at)
        return self.layer.begin_backward_data(at, run)


@final
@dataclass(frozen=True)
class _PricedNorm(_PricedLayer):
    """A batch normalisation that ranks share: its job runs behind the pass forward, before the one back."""

    def forward(self, at: Buffers, run: Context) -> None:
        self._note(FORWARD, at)
        self._exchange(at)

    def backward_data(self, at: Buffers, run: Context) -> None:
        self._exchange(at)
        self._note(BACKWARD_DATA, at)

    def _exchange(self, at: Buffers) -> None:
        norm = shared_inside(self.layer)
        assert norm is not None
        norm.exchange_alone(at)
