"""What one rank does in a few steps, taken down from the engine's own code instead of computed.

`engine.training.step`, the passes over the graph, buckets and exchanges run as in training, on memory that
nobody touches; the passes of layers say what they cost, and jobs are kept instead of run. So the schedule is
the engine's, not a copy of it.
"""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import final

import numpy as np
from numpy.typing import NDArray

from comm.collectives import Collectives
from comm.comm_thread import CommandQueue, Request
from comm.communicator import Communicator
from comm.grid import Grid
from comm.steps import Steps
from comm.tree import Tree
from engine.config.recipe import Recipe
from engine.data.loader import Batch
from engine.graph import Graph, Node
from engine.graph.parallel.exchange import Exchange
from engine.graph.parallel.overlapped_exchange import hide_exchanges
from engine.graph.passes.wrapped import WrappedLayer
from engine.models import MODELS
from engine.planner.costs import Costs
from engine.planner.design import Design
from engine.profile.recorder import BACKWARD_DATA, BACKWARD_WEIGHTS, FORWARD
from engine.training.all_passes import assemble
from engine.training.bucket import Update
from engine.training.loss import Loss
from engine.training.memory import Memory
from engine.training.rank_parameters import Model
from engine.training.step import train_step
from layers.kernels.threads import Threads
from layers.layer import Array, Buffers, Context, Finish

INPUT_NODE, LOSS_NODE, LOOP_NODE = "input", "loss", "loop"
"""Names of what a step computes outside all layers."""


@dataclass(frozen=True)
class Compute:
    """A pass over a layer, on the main thread with all its workers."""

    seconds: float
    node: str
    direction: str = ""
    """One of `engine.profile.recorder.PASSES`; empty for what belongs to no layer."""


@dataclass(frozen=True)
class Submit:
    """A job for the communication thread; `after` is the one that it builds on."""

    job: Steps
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


@dataclass(frozen=True)
class Members:
    """The communicators of one rank: all ranks, its model group and its data group."""

    world: Communicator
    model: Communicator
    data: Communicator


def assemble_rank(design: Design, members: Members, queue: CommandQueue) -> tuple[Graph, Grid]:
    """Return the graph that a rank of a design point runs, and its place among the others.

    Raises
    ------
    UserError, ValueError
        See `record`.
    """
    network = MODELS[design.model]()
    design.plan.check(network, design.ranks)
    tree = Tree.of(design.ranks, design.leaves)
    world = Collectives(members.world, tree, chunk_floats=design.chunk_floats)
    grid = Grid.joined(world, members.model, members.data)
    recipe = Recipe(conv=design.conv, fuse=design.fuse)
    return assemble(network, recipe, design.plan, grid, queue), grid


def record(design: Design, costs: Costs, members: Members, update: Update, *, steps: int) -> list[Operation]:
    """Return what a rank of a design point does in so many steps.

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
    queue = _Notes(operations)
    graph, grid = assemble_rank(design, members, queue)
    graph = hide_exchanges(_price(graph, costs, operations))
    model = Model(graph, grid, queue, bucket_floats=design.bucket_floats)
    memory = _PricedMemory(model, design.batch, grid, design.threads)
    memory.price = lambda samples: operations.append(
        Compute(costs.load(samples, graph.input_shape), INPUT_NODE)
    )
    loss = _PricedLoss(memory, design.batch, grid.world, queue)
    loss.price = lambda samples: operations.append(
        Compute(costs.loss(samples, graph.output_shape[0]), LOSS_NODE)
    )
    samples = memory.mine.stop - memory.mine.start
    batch = Batch(
        np.zeros((samples, 0), np.float32), np.zeros(samples, np.int32), np.zeros(samples, np.int64), epoch=0
    )
    with closing(Threads(1)) as threads:
        run = Context(threads)
        for number in range(1, steps + 1):
            train_step(model, memory, batch, loss, run, update)
            loss.wait()
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

    def submit(
        self, job: Steps, *, name: str = "", priority: int = 0, after: Request | None = None
    ) -> Request:
        """Keep a job."""
        ticket = Ticket(self, name)
        self.operations.append(Submit(job, ticket, name, priority, after))
        return ticket

    def close(self) -> None:
        """Return at once: nothing runs."""


@final
class _PricedMemory(Memory):
    """Memory into which no minibatch is copied."""

    price: Callable[[int], None]

    def load(self, x: Array, threads: Threads) -> None:
        self.price(len(x))


@final
class _PricedLoss(Loss):
    """A loss of nothing, gathered as ever."""

    price: Callable[[int], None]

    def backward(self, memory: Memory, labels: NDArray[np.int32], run: Context) -> None:
        self.price(len(labels))


def _price(graph: Graph, costs: Costs, operations: list[Operation]) -> Graph:
    """Return the graph with layers that take down what they would cost; an exchange submits its job too."""

    def priced(node: Node) -> Node:
        kind = _PricedExchange if isinstance(node.layer, Exchange) else _PricedLayer
        return Node(
            node.name,
            kind(node.layer, node.name, costs=costs, operations=operations),
            node.inputs,
            node.held,
            node.first,
            node.shards,
        )

    return Graph(graph.input_shape, tuple(priced(node) for node in graph))


@dataclass(frozen=True)
class _PricedLayer(WrappedLayer):
    """A layer whose passes take no time here, and say how much they would elsewhere."""

    costs: Costs = field(repr=False, compare=False)
    operations: list[Operation] = field(repr=False, compare=False)

    def forward(self, at: Buffers, run: Context) -> None:
        self._note(FORWARD, at)

    def backward_weights(self, at: Buffers, run: Context) -> None:
        if at.gradients:
            self._note(BACKWARD_WEIGHTS, at)

    def backward_data(self, at: Buffers, run: Context) -> None:
        self._note(BACKWARD_DATA, at)

    def backward_data_first(self, at: Buffers, run: Context) -> None:
        self._note(BACKWARD_DATA, at)

    def _note(self, direction: str, at: Buffers) -> None:
        passes = self.costs.passes(self.layer, at.shapes, len(at.samples))
        self.operations.append(Compute(getattr(passes, direction), self.node, direction))


@dataclass(frozen=True)
class _PricedExchange(_PricedLayer):
    """An exchange: what it copies costs something, and then its job goes its way."""

    def forward(self, at: Buffers, run: Context) -> None:
        self._note(FORWARD, at)
        self.layer.forward(at, run)

    def backward_data(self, at: Buffers, run: Context) -> None:
        self.begin_backward_data(at, run)()

    def begin_backward_data(self, at: Buffers, run: Context) -> Finish:
        self._note(BACKWARD_DATA, at)
        return self.layer.begin_backward_data(at, run)
