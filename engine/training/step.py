"""One training step. Read this page first: it is the whole engine."""

from collections.abc import Iterable

from engine.data.loader import Batch
from engine.training.loss import Outcome
from engine.training.microbatches import Microbatch
from engine.training.rank import Rank
from engine.training.update import Update
from layers.layer import Context


def forward(rank: Rank, batch: Batch, run: Context) -> Microbatch:
    """Compute the output of a minibatch, or of a microbatch; return its buffers."""
    microbatch = rank.memory.load(batch, run.threads)
    for node in rank.graph:
        rank.parameters[node.name].wait()  # its new weights have arrived
        node.layer.forward(microbatch[node.name], run)
    return microbatch


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
        This rank's share of the minibatch: one, or its microbatches in order where the run accumulates.
    """
    for batch in batches:
        microbatch = forward(rank, batch, run)
        rank.loss.backward(rank.memory, batch, run)
        if microbatch.is_last:
            rank.loss.submit(stop=stop)  # communication thread: gather loss and accuracy of all leaves
            rank.states.submit()  # and what layers have noted of each leaf
        backward(rank, microbatch, run, update)
    if rank.parameters.is_skipped():
        rank.states.wait()
    else:
        rank.states.update(run.step)
    return rank.loss.wait()


def backward(rank: Rank, microbatch: Microbatch, run: Context, update: Update) -> None:
    """Compute gradients; with the last microbatch start their sums over the ranks, and the update."""
    if microbatch.is_last and rank.buddies is not None:
        rank.buddies.wait()
    for node in reversed(rank.graph.nodes):
        at, parameters = microbatch[node.name], rank.parameters[node.name]
        node.layer.backward_weights(at, run)
        if microbatch.is_last:
            parameters.submit_reduce()  # communication thread: part-reduce into the owned strips
        if at.dx:
            node.layer.backward_data(at, run)
        if microbatch.is_last:
            parameters.submit_update(update)  # communication thread: update the strips, part-broadcast
