"""A rank's share of the minibatches in the parts in which it computes them, and reading these."""

from collections.abc import Iterable, Iterator

from engine.data.loader import Batch, Loader
from engine.data.sampler import Share
from engine.run.failures import Failures
from engine.training.rank import Rank


def own_shares(rank: Rank, minibatches: Iterable[Share]) -> Iterator[Share]:
    """Yield this rank's parts of global minibatches, one after the other."""
    for minibatch in minibatches:
        for number, part in enumerate(rank.memory.parts):
            yield minibatch.rows(part.places, number)


def read_parts(rank: Rank, loader: Loader, failures: Failures) -> Iterator[Batch]:
    """Yield the parts of the next minibatch; what fails is kept, and zeros of no class stand for the rest."""
    for number, part in enumerate(rank.memory.parts):
        batch = None
        with failures.kept():
            batch = next(loader)
        yield batch or Batch.lost(part.rows.stop - part.rows.start, rank.graph.input_shape, number)
