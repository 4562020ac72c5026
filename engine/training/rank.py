"""One rank of a training run, built in one place: training, the planner and its rehearsals all use it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from comm.comm_thread import CommandQueue
from comm.grid import Grid
from engine.graph import Graph
from engine.graph.parallel.plan import Plan
from engine.host.aligned_arrays import blocks, touch
from engine.host.on_threads import on_threads
from engine.training.all_passes import Wrap, all_passes
from engine.training.buddies import Buddies
from engine.training.held import Tensors
from engine.training.layer_states import LayerStates
from engine.training.loss import Criterion, Loss
from engine.training.memory import CopyIn, Memory
from engine.training.rank_parameters import RankParameters
from engine.training.rank_settings import RankSettings
from layers.kernels import reorder
from layers.layer import Array
from layers.softmax_cross_entropy import SoftmaxCrossEntropy

_TOUCHED_BYTES = 1 << 26  # of memory that one task faults in


@dataclass(frozen=True)
class Rank:
    """One rank with all its memory, ready to take steps."""

    settings: RankSettings
    plan: Plan
    grid: Grid
    queue: CommandQueue
    graph: Graph
    parameters: RankParameters
    states: LayerStates
    memory: Memory
    loss: Loss
    buddies: Buddies | None
    """None where no copies are kept for others to go on from."""
    parameter_count: int
    """Trainable values of the whole network, on all ranks together; padding does not count."""

    def initialise(self, seed: int, given: Mapping[str, Array] | None = None) -> None:
        """Draw the initial weights from the seed, on as many threads as the kernels have.

        Other threads fault in the remaining buffers meanwhile, which takes about as long as one thread needs
        to draw the largest layer.

        Parameters
        ----------
        given
            Weights and state in standard layout that are taken instead, by ``node.name``.
        """
        given = given or {}
        self.states.restore({**self.states.tensors(), **given})
        self.states.start_averages(self.states.tensors())
        arrays = (*self.memory.arrays(), *self.parameters.arrays())
        tasks = self.parameters.initialisation_tasks(seed, given)
        tasks += [partial(touch, block) for block in blocks(arrays, _TOUCHED_BYTES)]
        for _ in on_threads(lambda task: task(), tasks, self.settings.threads):
            pass
        self.parameters.start_averages()

    def restore(self, tensors: Tensors) -> None:
        """Overwrite weights, state, averages and moments with those of a checkpoint."""
        self.parameters.restore(tensors)
        self.states.restore_saved(tensors)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Let the averages of weights and state stand in their place inside the `with` (collective)."""
        with self.parameters.averaged(), self.states.averaged():
            yield


def build_rank(
    network: Graph,
    settings: RankSettings,
    plan: Plan,
    grid: Grid,
    queue: CommandQueue,
    *,
    wrap: Wrap | None = None,
    criterion: Criterion | None = None,
    copy_in: CopyIn = reorder.to_blocked,
    hosts: Sequence[str] = (),
) -> Rank:
    """Build a rank: run all passes over the network, then allocate its parameters and memory.

    Parameters
    ----------
    network
        As a model function returns it.
    plan
        Checked against network and ranks; `grid` has its number of parts.
    queue
        Runs the jobs of this rank.
    wrap
        Wraps each layer, for instance in a `TimedLayer`.
    criterion
        Loss function; default: softmax and cross entropy.
    copy_in
        Copies a minibatch into the graph's input.
    hosts
        What names the host of each rank, if that is known.
    """
    graph = all_passes(network, settings, plan, grid, queue, wrap=wrap)
    parameters = RankParameters(
        graph,
        grid,
        queue,
        bucket_floats=settings.bucket_floats,
        accumulate=settings.accumulate,
        form=settings.form,
        clip_norm=settings.clip_norm,
        skips=settings.skips,
    )
    states = LayerStates(graph, grid.world, queue, ema=settings.ema)
    memory = Memory(parameters, states, settings.batch, grid, settings.threads, copy_in=copy_in)
    loss = Loss(
        memory,
        settings.batch,
        grid.world,
        queue,
        criterion=criterion or SoftmaxCrossEntropy(),
        smoothing=settings.label_smoothing,
    )
    buddies = None
    ranks = grid.world.communicator.size
    if settings.buddies and ranks > 1:
        where = hosts or ("",) * ranks
        buddies = Buddies(parameters, states, grid, queue, count=settings.buddies, hosts=where)
    return Rank(
        settings,
        plan,
        grid,
        queue,
        graph,
        parameters,
        states,
        memory,
        loss,
        buddies,
        network.parameter_count(),
    )
