"""Evaluation on a test set: every sample exactly once, sharded over the ranks."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from comm.tree import ceil_div, tree_sum
from engine.data.dataset import Dataset
from engine.data.loader import Batch, Loader
from engine.data.sampler import ABSENT, evaluation
from engine.run.failures import Failures
from engine.training.rank import Rank
from engine.training.step import forward
from layers.layer import Context


@dataclass(frozen=True)
class Evaluator:
    """Evaluates a rank's network with the memory that trains it."""

    rank: Rank
    context: Context

    def evaluate(self, dataset: Dataset, failures: Failures) -> tuple[float, float] | None:
        """Return (mean loss, accuracy) over a data set (collective); None where a rank cannot read samples.

        That rank keeps the error in `failures`, and takes part with zeros, as the others wait for it.

        The samples go through in minibatches of the training's size, each rank taking the leaves that it has
        in training; places left over in the last one count nothing. Both figures are the same bits on any
        number of ranks.
        """
        rank, collectives, batch = self.rank, self.rank.grid.world, self.rank.settings.batch
        own = collectives.tree.leaves_of(collectives.communicator.rank)
        minibatches = ceil_div(len(dataset), batch)
        rows = np.zeros((collectives.tree.leaves, minibatches * 2 + 1), np.float64)
        shares = (share.rows(rank.memory.own_samples) for share in evaluation(len(dataset), batch))
        with Loader(dataset, shares) as loader, _not_training(self.context):
            for index, minibatch in enumerate(_all(loader, minibatches, rank, failures)):
                forward(rank, minibatch, self.context)
                rank.loss.backward(rank.memory, minibatch.labels, self.context)
                rows[own.start : own.stop, 2 * index : 2 * index + 2] = rank.loss.leaf_rows()
        rows[own.start : own.stop, -1] = failures.first is not None
        rank.queue.submit(collectives.all_gather_leaves(rows), name="gather evaluation").wait()
        *summed, failed = tree_sum(rows)
        if failed:
            return None
        sums = np.reshape(summed, (minibatches, 2))
        total_loss = 0.0
        for minibatch_loss in sums[:, 0]:
            total_loss += float(minibatch_loss)
        return total_loss / len(dataset), float(sums[:, 1].sum()) / len(dataset)


def _all(loader: Loader, minibatches: int, rank: Rank, failures: Failures) -> Iterator[Batch]:
    """Yield so many minibatches: after a failure zeros, which belong to no class."""
    samples = rank.memory.own_samples.stop - rank.memory.own_samples.start
    for _ in range(minibatches):
        if failures.first is None:
            with failures.kept():
                batch = next(loader)
        if failures.first is not None:
            shape = rank.graph.input_shape
            absent = np.full(samples, ABSENT, np.int32)
            batch = Batch(np.zeros((samples, *shape), np.float32), absent, absent.astype(np.int64), 0)
        yield batch


@contextmanager
def _not_training(context: Context) -> Iterator[None]:
    """Let layers compute as in use, without dropout, inside the `with`."""
    before, context.training = context.training, False
    try:
        yield
    finally:
        context.training = before
