"""A rank's share of the minibatches, in the microbatches in which it computes them."""

from collections.abc import Iterable, Iterator

from engine.data.loader import Batch, Loader
from engine.data.sampler import Share
from engine.run.failures import Failures
from engine.training.rank import Rank


def own_shares(rank: Rank, minibatches: Iterable[Share]) -> Iterator[Share]:
    """Yield this rank's microbatches of global minibatches, one after the other."""
    for minibatch in minibatches:
        for number, microbatch in enumerate(rank.memory.microbatches):
            yield minibatch.rows(microbatch.places, number)


def read_minibatch(rank: Rank, loader: Loader, failures: Failures) -> Iterator[Batch]:
    """Yield the microbatches of the next minibatch; what fails is kept, and zeros stand for the rest."""
    for number, microbatch in enumerate(rank.memory.microbatches):
        batch = None
        with failures.kept():
            batch = next(loader)
        samples = microbatch.rows.stop - microbatch.rows.start
        yield batch or Batch.lost(samples, rank.graph.input_shape, number)
