"""Loss and accuracy of a minibatch: per leaf, gathered, and added in the order of the fixed tree."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from comm.collectives import Collectives
from comm.comm_thread import CommandQueue, Request
from comm.tree import tree_sum
from engine.config.errors import UserError
from engine.data.loader import Batch
from engine.training.bucket import BEFORE_PARAMETERS
from engine.training.memory import Memory
from layers.kernels.threads import Threads
from layers.layer import Array, Context

COLUMNS = 4  # of a leaf's row: loss, correct samples, ranks that want to stop, or have not read all samples


class LostSamplesError(UserError):
    """A rank could not read a microbatch: on all ranks the step ends before any weight changes."""


@dataclass(frozen=True)
class Outcome:
    """Sums over a whole minibatch, the same on all ranks."""

    loss: float
    correct: int
    stop: bool


class Criterion(Protocol):
    """The interface of a loss function, such as `SoftmaxCrossEntropy`."""

    def forward_backward(
        self,
        threads: Threads,
        logits: Array,
        labels: NDArray[np.int32],
        classes: int,
        scale: float,
        gradient: Array,
        losses: NDArray[np.float64],
        correct: NDArray[np.uint8],
        smoothing: float = 0.0,
        others: NDArray[np.int32] | None = None,
        shares: NDArray[np.float64] | None = None,
        weights: NDArray[np.float64] | None = None,
    ) -> None:
        """Write the gradient of ``scale * losses``, the losses, and whether each prediction is right."""


class Loss:
    """The mean loss of a minibatch over the classes of the graph's output, and its accuracy.

    Parameters
    ----------
    batch : int
        Samples of the global minibatch, by which the gradient is divided.
    smoothing
        Share of each label that is spread over all classes in training; evaluation takes labels as they are.
    """

    def __init__(
        self,
        memory: Memory,
        batch: int,
        collectives: Collectives,
        queue: CommandQueue,
        *,
        criterion: Criterion,
        smoothing: float = 0.0,
    ):
        (self._classes,) = memory.graph.output_shape
        self._criterion, self._smoothing = criterion, smoothing
        self._batch, self._collectives, self._queue = batch, collectives, queue
        samples = memory.own_samples.stop - memory.own_samples.start
        self._losses = np.zeros(samples, np.float64)
        self._correct = np.zeros(samples, np.uint8)
        self._rows = np.zeros((collectives.tree.leaves, COLUMNS), np.float64)
        self._request: Request | None = None
        self._is_cut, self._is_lost = len(memory.microbatches) > 1, False
        self._weights: NDArray[np.float64] | None = None

    def weigh(self, weights: Sequence[float] | None) -> None:
        """Give the classes weights in training, one each; outputs behind them, of no class, have 1.

        Evaluation takes all classes alike.
        """
        self._weights = None
        if weights is not None:
            self._weights = np.ones(self._classes)
            self._weights[: len(weights)] = weights

    def backward(self, memory: Memory, batch: Batch, run: Context) -> None:
        """Write the gradient of the output, divided by the global batch; keep loss and hits per sample.

        Where samples are mixed, the batch's `shares` are those of the labels, the rest is that of the others.
        """
        rows = memory.microbatches[batch.microbatch].rows
        self._is_lost |= batch.is_lost and run.training
        self._criterion.forward_backward(
            run.threads,
            memory.output,
            batch.labels,
            self._classes,
            1 / self._batch,
            memory.output_gradient,
            self._losses[rows],
            self._correct[rows],
            self._smoothing if run.training else 0.0,
            batch.other_labels,
            batch.shares,
            self._weights if run.training else None,
        )

    @property
    def sample_losses(self) -> NDArray[np.float64]:
        """The losses of the own samples, float64 [n], which the next minibatch overwrites."""
        return self._losses

    def leaf_rows(self) -> NDArray[np.float64]:
        """Return [own leaves, 2]: the sums of loss and hits over each leaf, sample by sample."""
        own = self._collectives.tree.leaves_of(self._collectives.communicator.rank)
        losses = self._losses.reshape(len(own), -1)
        correct = self._correct.reshape(len(own), -1)
        total = np.zeros(len(own))
        for column in range(losses.shape[1]):
            total += losses[:, column]
        return np.stack([total, correct.sum(axis=1)], axis=1)

    def submit(self, *, stop: bool) -> None:
        """Start gathering the sums of all leaves; `stop` tells all ranks that this one wants to end.

        Raises
        ------
        LostSamplesError
            On all ranks. Samples that are read in the middle of a step may be bad, so with microbatches the
            ranks wait here for each other. A whole minibatch is known to be good before.
        """
        own = self._collectives.tree.leaves_of(self._collectives.communicator.rank)
        self._rows[own.start : own.stop, :2] = self.leaf_rows()
        self._rows[own.start : own.stop, 2] = stop
        self._rows[own.start : own.stop, 3], self._is_lost = self._is_lost, False
        self._request = self._queue.submit(
            self._collectives.all_gather_leaves(self._rows), name="gather loss", priority=BEFORE_PARAMETERS
        )
        if self._is_cut:
            self._request.wait()
            if self._rows[:, 3].any():
                raise LostSamplesError("samples of the minibatch could not be read")

    def wait(self) -> Outcome:
        """Wait for the sums of all leaves, and return those of the minibatch."""
        assert self._request is not None
        self._request.wait()
        loss, correct, stop, _ = tree_sum(self._rows)
        return Outcome(float(loss), int(correct), bool(stop))
