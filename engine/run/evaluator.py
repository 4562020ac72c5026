"""Evaluation on a test set: every sample exactly once, sharded over the ranks."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from comm.tree import ceil_div, tree_sum
from engine.data.dataset import Dataset
from engine.data.loader import Loader
from engine.data.sampler import evaluation
from engine.training.rank import Rank
from engine.training.step import forward
from layers.layer import Context


@dataclass(frozen=True)
class Evaluator:
    """Evaluates a rank's network with the memory that trains it."""

    rank: Rank
    context: Context

    def evaluate(self, dataset: Dataset) -> tuple[float, float]:
        """Return (mean loss, accuracy) over a data set (collective).

        The samples go through in minibatches of the training's size, each rank taking the leaves that it has
        in training; places left over in the last one count nothing. Both figures are the same bits on any
        number of ranks.
        """
        rank, collectives, batch = self.rank, self.rank.grid.world, self.rank.settings.batch
        own = collectives.tree.leaves_of(collectives.communicator.rank)
        minibatches = ceil_div(len(dataset), batch)
        rows = np.zeros((collectives.tree.leaves, minibatches * 2), np.float64)
        shares = (share.rows(rank.memory.own_samples) for share in evaluation(len(dataset), batch))
        with Loader(dataset, shares) as loader, _not_training(self.context):
            for index, minibatch in enumerate(loader):
                forward(rank, minibatch, self.context)
                rank.loss.backward(rank.memory, minibatch.labels, self.context)
                rows[own.start : own.stop, 2 * index : 2 * index + 2] = rank.loss.leaf_rows()
        rank.queue.submit(collectives.all_gather_leaves(rows), name="gather evaluation").wait()
        sums = tree_sum(rows).reshape(minibatches, 2)
        total_loss = 0.0
        for minibatch_loss in sums[:, 0]:
            total_loss += float(minibatch_loss)
        return total_loss / len(dataset), float(sums[:, 1].sum()) / len(dataset)


@contextmanager
def _not_training(context: Context) -> Iterator[None]:
    """Let layers compute as in use, without dropout, inside the `with`."""
    before, context.training = context.training, False
    try:
        yield
    finally:
        context.training = before
