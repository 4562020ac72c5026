"""One training step. Read this page first: it is the whole engine."""

from collections.abc import Iterable

from engine.data.loader import Batch
from engine.training.loss import Outcome
from engine.training.parts import Part
from engine.training.rank import Rank
from engine.training.update import Update
from layers.layer import Context


def forward(rank: Rank, batch: Batch, run: Context) -> Part:
    """Compute the output of a minibatch, or of a part of it, and return which part."""
    part = rank.memory.load(batch, run.threads)
    for node in rank.graph:
        rank.parameters[node.name].wait()  # its new weights have arrived
        node.layer.forward(part[node.name], run)
    return part


def train_step(
    rank: Rank, batches: Iterable[Batch], run: Context, update: Update, *, stop: bool = False
) -> Outcome:
    """Run forward and backward, start the update, and return loss and accuracy of the global minibatch.

    The weights are those of the next step once `rank.parameters.wait` returns. The gradient of the loss is
    already divided by the global minibatch: sums over ranks are means. `stop` tells all ranks, with the loss,
    that this one wants to end.

    Parameters
    ----------
    batches
        This rank's share of the minibatch: one batch, or its parts in their order where the run accumulates.
    """
    for batch in batches:
        part = forward(rank, batch, run)
        rank.loss.backward(rank.memory, batch, run)
        if part.is_last:
            rank.loss.submit(stop=stop)  # communication thread: gather loss and accuracy of all leaves
            rank.states.submit()  # and what layers have noted of each leaf
        backward(rank, part, run, update)
    rank.states.update(run.step)
    return rank.loss.wait()


def backward(rank: Rank, part: Part, run: Context, update: Update) -> None:
    """Compute the gradients of a part; with the last one, start their sums over ranks, and the update."""
    for node in reversed(rank.graph.nodes):
        at, parameters = part[node.name], rank.parameters[node.name]
        node.layer.backward_weights(at, run)
        if part.is_last:
            parameters.submit_reduce()  # communication thread: part-reduce into the owned strips
        if at.dx:
            node.layer.backward_data(at, run)
        if part.is_last:
            parameters.submit_update(update)  # communication thread: update the strips, part-broadcast
