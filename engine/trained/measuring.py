"""What a network finds in each sample of a data set: measured on all ranks, gathered in their order."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from comm.tree import ceil_div, tree_sum
from engine.data.dataset import DataError, Dataset
from engine.data.loader import Batch
from engine.run.evaluator import gather_measured
from engine.run.failures import Failures
from engine.trained.probabilities import place_of, softmax
from engine.trained.views import View
from engine.training.rank import Rank
from engine.training.step import forward
from layers.layer import Context
from layers.layout import from_blocked

_COLUMNS = 4  # of a sample: loss, label, the class that was found, the classes before the label


@dataclass(frozen=True, eq=False)
class Measured:
    """Of each sample of a data set, in its order; the same bits on any ranks, threads and batch."""

    losses: NDArray[np.float64]
    labels: NDArray[np.int64]
    """-1 where the sample could not be read: it counts nothing."""
    found: NDArray[np.int64]
    places: NDArray[np.int64]
    """How many classes the network holds for likelier than the right one."""
    bad: tuple[str, ...] = ()
    """Errors of the samples that could not be read."""


def measure(
    rank: Rank,
    context: Context,
    dataset: Dataset,
    failures: Failures,
    *,
    views: Sequence[View] = (),
    skip: bool = False,
    tell: Callable[[int, int], None] = lambda _done, _all: None,
) -> Measured | None:
    """Put a data set through a network (collective); None where a rank has failed, which `failures` keeps.

    Parameters
    ----------
    views
        How each image is seen: its probabilities are the sum over all, each by its share; empty: as it is.
    skip
        Go on without samples that cannot be read.
    tell
        Called with the number of samples that are done, on all ranks together, and of all.
    """
    world = rank.grid.world
    per_leaf = rank.settings.batch // world.tree.leaves
    bad: list[tuple[int, str]] = []

    def note(sample: int, error: DataError) -> None:
        bad.append((sample, str(error)))

    rows = gather_measured(
        rank,
        dataset,
        failures,
        partial(_by_views, rank, context, views) if views else partial(_once, rank, context),
        columns=per_leaf * _COLUMNS,
        on_bad=note if skip else None,
        tell=lambda minibatches: tell(minibatches * rank.settings.batch, len(dataset)),
    )
    everyone = world.communicator.gather_objects(bad)
    if rows is None:
        return None
    leaves, minibatches, _ = rows.shape
    cut = rows.reshape(leaves, minibatches, per_leaf, _COLUMNS).transpose(1, 0, 2, 3)
    samples = cut.reshape(-1, _COLUMNS)[: len(dataset)]
    labels, found, places = (samples[:, column].astype(np.int64) for column in (1, 2, 3))
    messages = tuple(message for _, message in sorted(each for its in everyone for each in its))
    return Measured(samples[:, 0].copy(), labels, found, places, messages)


def total_loss(losses: NDArray[np.float64], *, batch: int, leaves: int) -> float:
    """Add losses in the order of a run's own evaluation, in minibatches of so many samples and leaves."""
    padded = np.zeros(ceil_div(len(losses), batch) * batch)
    padded[: len(losses)] = losses
    cut = padded.reshape(-1, leaves, batch // leaves)
    of_leaves = np.zeros(cut.shape[:2])
    for column in range(cut.shape[2]):
        of_leaves += cut[:, :, column]
    total = 0.0
    for of_minibatch in tree_sum(of_leaves.T):
        total += float(of_minibatch)
    return total


def _once(rank: Rank, context: Context, minibatch: Batch) -> NDArray[np.float64]:
    logits = _logits(rank, context, minibatch)
    rank.loss.backward(rank.memory, minibatch, context)  # writes over the logits
    return _rows(rank, minibatch, logits, rank.loss.sample_losses)


def _by_views(rank: Rank, context: Context, views: Sequence[View], minibatch: Batch) -> NDArray[np.float64]:
    probabilities = np.zeros(())
    for view in views:
        seen = Batch(view.of(minibatch.x), minibatch.labels, minibatch.samples, minibatch.epoch)
        probabilities = probabilities + view.share * softmax(_logits(rank, context, seen))
    labels = minibatch.labels
    right = probabilities[np.arange(len(labels)), np.maximum(labels, 0)]
    with np.errstate(divide="ignore"):  # a probability that is rounded to zero
        losses = np.where(labels < 0, 0.0, -np.log(right))
    return _rows(rank, minibatch, probabilities, losses)


def _logits(rank: Rank, context: Context, minibatch: Batch) -> NDArray[np.float32]:
    forward(rank, minibatch, context)
    return from_blocked(rank.memory.output, rank.graph.output_shape).copy()


def _rows(
    rank: Rank, minibatch: Batch, scores: NDArray[np.floating], losses: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return [own leaves, samples of a leaf * _COLUMNS]."""
    labels = minibatch.labels.astype(np.int64)
    samples = np.stack([losses, labels, scores.argmax(axis=1), place_of(scores, labels)], axis=1)
    world = rank.grid.world
    own = world.tree.leaves_of(world.communicator.rank)
    return samples.astype(np.float64, copy=False).reshape(len(own), -1)
