"""One training step. Read this page first: it is the whole engine."""

from engine.data.loader import Batch
from engine.training.loss import Outcome
from engine.training.rank import Rank
from engine.training.update import Update
from layers.layer import Context


def forward(rank: Rank, batch: Batch, run: Context) -> None:
    """Compute the output of a minibatch."""
    rank.memory.load(batch.x, run.threads)
    for node in rank.graph:
        rank.parameters[node.name].wait()  # its new weights have arrived
        node.layer.forward(rank.memory[node.name], run)


def train_step(rank: Rank, batch: Batch, run: Context, update: Update, *, stop: bool = False) -> Outcome:
    """Run forward and backward, start the update, and return loss and accuracy of the global minibatch.

    The weights are those of the next step once `rank.parameters.wait` returns. The gradient of the loss is
    already divided by the global minibatch: sums over ranks are means. `stop` tells all ranks, with the loss,
    that this one wants to end.
    """
    forward(rank, batch, run)
    rank.loss.backward(rank.memory, batch.labels, run, batch.other_labels, batch.shares)
    rank.loss.submit(stop=stop)  # communication thread: gather loss and accuracy of all leaves
    rank.states.submit()  # and what layers have noted of each leaf
    for node in reversed(rank.graph.nodes):
        at, parameters = rank.memory[node.name], rank.parameters[node.name]
        node.layer.backward_weights(at, run)
        parameters.submit_reduce()  # communication thread: part-reduce into the owned strips
        if at.dx:
            node.layer.backward_data(at, run)
        parameters.submit_update(update)  # communication thread: update the strips, part-broadcast
    rank.states.update(run.step)
    return rank.loss.wait()
