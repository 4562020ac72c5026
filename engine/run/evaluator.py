"""Evaluation on a test set: every sample exactly once, sharded over the ranks."""

import numpy as np

from comm.collectives import Collectives
from comm.comm_thread import CommandQueue
from comm.tree import tree_sum
from engine.data.dataset import Dataset
from engine.data.loader import Loader
from engine.data.sampler import evaluation
from engine.training.loss import Loss
from engine.training.memory import Memory
from engine.training.rank_parameters import Model
from engine.training.step import forward
from layers.layer import Context


def evaluate(
    model: Model,
    memory: Memory,
    loss: Loss,
    run: Context,
    dataset: Dataset,
    batch: int,
    collectives: Collectives,
    queue: CommandQueue,
) -> tuple[float, float]:
    """Return (mean loss, accuracy) over a data set (collective).

    The samples go through in minibatches of `batch`, each rank taking the leaves that it has in
    training; places left over in the last one count nothing. Both figures are the same bits on any
    number of ranks.
    """
    tree, rank = collectives.tree, collectives.communicator.rank
    own = tree.leaves_of(rank)
    minibatches = -(-len(dataset) // batch)
    rows = np.zeros((tree.leaves, minibatches * 2), np.float64)
    run.training = False
    shares = (share.rows(memory.mine) for share in evaluation(len(dataset), batch))
    with Loader(dataset, shares) as loader:
        for index, minibatch in enumerate(loader):
            forward(model, memory, minibatch, run)
            loss.backward(memory, minibatch.labels, run)
            rows[own.start : own.stop, 2 * index : 2 * index + 2] = loss.leaf_rows()
    run.training = True
    queue.submit(collectives.all_gather_leaves(rows), name="gather evaluation").wait()
    sums = tree_sum(rows).reshape(minibatches, 2)
    total_loss = 0.0
    for minibatch_loss in sums[:, 0]:
        total_loss += float(minibatch_loss)
    return total_loss / len(dataset), float(sums[:, 1].sum()) / len(dataset)
