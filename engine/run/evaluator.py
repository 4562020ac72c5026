"""Evaluation on a test set: every sample exactly once, sharded over the ranks."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from comm.tree import ceil_div, tree_sum
from engine.data.dataset import DataError, Dataset
from engine.data.loader import BadHook, Batch, Loader
from engine.data.sampler import evaluation
from engine.run.failures import Failures
from engine.run.reading import own_shares, read_minibatch
from engine.training.rank import Rank
from engine.training.step import forward
from layers.layer import Context

Measure = Callable[[Batch], NDArray[np.float64]]
"""Computes a minibatch or a microbatch, and returns what is to be known of it: a row for each own leaf."""


@dataclass(frozen=True)
class Evaluator:
    """Evaluates a rank's network with the memory that trains it."""

    rank: Rank
    context: Context

    def evaluate(
        self,
        dataset: Dataset,
        failures: Failures,
        *,
        on_bad: BadHook | None = None,
        ends: Callable[[], bool] = lambda: False,
    ) -> tuple[float, float] | None:
        """Return (mean loss, accuracy) over a data set (collective); None where a rank cannot read samples.

        Both figures are the same bits on any number of ranks; see `gather_measured`, also for `on_bad`, with
        which they are means over the samples that can be read, and `ends`.
        """
        missing: list[int] = []

        def note(sample: int, error: DataError) -> None:
            missing.append(sample)
            if on_bad is not None:
                on_bad(sample, error)

        with _not_training(self.context):
            rows = gather_measured(
                self.rank,
                dataset,
                failures,
                self._measure,
                columns=2,
                on_bad=None if on_bad is None else note,
                ends=ends,
            )
        if rows is None:
            return None
        read = len(dataset)
        if on_bad is not None:
            read -= sum(self.rank.grid.world.communicator.gather_objects(len(missing)))
        sums = tree_sum(rows)
        total_loss = 0.0
        for minibatch_loss in sums[:, 0]:
            total_loss += float(minibatch_loss)
        return total_loss / max(read, 1), float(sums[:, 1].sum()) / max(read, 1)

    def _measure(self, minibatch: Batch) -> NDArray[np.float64]:
        forward(self.rank, minibatch, self.context)
        self.rank.loss.backward(self.rank.memory, minibatch, self.context)
        return self.rank.loss.leaf_rows()[self.rank.memory.microbatches[minibatch.microbatch].leaves]


def gather_measured(
    rank: Rank,
    dataset: Dataset,
    failures: Failures,
    measure: Measure,
    *,
    columns: int,
    on_bad: BadHook | None = None,
    tell: Callable[[int], None] = lambda _: None,
    ends: Callable[[], bool] = lambda: False,
) -> NDArray[np.float64] | None:
    """Return what is measured over a data set, float64 [leaves, minibatches, columns] (collective).

    None where a rank cannot read samples: it keeps the error in `failures`, and takes part with zeros, as the
    others wait for it. The samples go through in minibatches of the rank's size, each rank taking the leaves
    that it has in training; places left over in the last one are absent.

    Parameters
    ----------
    on_bad
        A sample that cannot be read is told to it and absent, and is no failure.
    tell
        Called with the number of minibatches that are done.
    ends
        Asked before each minibatch; where it is True, on all ranks, nothing more is measured, nor returned.
    """
    collectives, samples = rank.grid.world, rank.settings.batch
    own = collectives.tree.leaves_of(collectives.communicator.rank)
    microbatches = rank.memory.microbatches
    minibatches = ceil_div(len(dataset), samples)
    rows = np.zeros((collectives.tree.leaves, minibatches * columns + 1), np.float64)
    shares = own_shares(rank, evaluation(len(dataset), samples))
    own_rows = rows[own.start : own.stop]
    with Loader(dataset, shares, threads=rank.settings.data_threads, on_bad=on_bad) as loader:
        for index in range(minibatches):
            if ends():
                return None
            for batch in read_minibatch(rank, loader, failures):
                its_rows = own_rows[microbatches[batch.microbatch].leaves]
                its_rows[:, columns * index : columns * (index + 1)] = measure(batch)
            tell(index + 1)
    rows[own.start : own.stop, -1] = failures.first is not None
    rank.queue.submit(collectives.all_gather_leaves(rows), name="gather evaluation").wait()
    if rows[:, -1].any():
        return None
    return rows[:, :-1].reshape(collectives.tree.leaves, minibatches, columns)


@contextmanager
def _not_training(context: Context) -> Iterator[None]:
    """Let layers compute as in use, without dropout, inside the `with`."""
    before, context.training = context.training, False
    try:
        yield
    finally:
        context.training = before
