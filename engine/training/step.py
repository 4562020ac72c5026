"""One training step. Read this page first: it is the whole engine."""

from engine.data.loader import Batch
from engine.training.bucket import Update
from engine.training.loss import Loss
from engine.training.memory import Memory
from engine.training.rank_parameters import Model
from layers.layer import Context


def forward(model: Model, memory: Memory, batch: Batch, run: Context) -> None:
    """Compute the output of a minibatch."""
    memory.load(batch.x, run.threads)
    for node in model.graph:
        model.parameters[node.name].wait()  # its new weights have arrived
        node.layer.forward(memory[node.name], run)


def train_step(
    model: Model,
    memory: Memory,
    batch: Batch,
    loss: Loss,
    run: Context,
    update: Update,
    *,
    stop: bool = False,
) -> None:
    """Run forward and backward, and start the update: `model.wait` returns when it is done.

    The gradient of the loss is already divided by the global minibatch: sums over ranks are means.
    `stop` tells all ranks, with the loss, that this one wants to end.
    """
    forward(model, memory, batch, run)
    loss.backward(memory, batch.labels, run)
    loss.submit(stop=stop)  # communication thread: gather loss and accuracy of all leaves
    for node in reversed(model.graph.nodes):
        at, parameters = memory[node.name], model.parameters[node.name]
        node.layer.backward_weights(at, run)
        parameters.submit_reduce()  # communication thread: part-reduce into the owned strips
        if at.dx:
            node.layer.backward_data(at, run)
        parameters.submit_update(update)  # communication thread: update the strips, part-broadcast
