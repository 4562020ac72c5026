"""The train command, with gradients and weights carried by MPI's own collectives: a peer in `bench.scaling`.

Everything else is the engine's: kernels, buckets, the communication thread, the update of owned strips. MPI
gets Ireduce_scatter_block and Iallgather, or Iallreduce and Iallgather, of whole buckets; each job has a
communicator of its own, because ranks may start jobs in different orders. The order of additions is MPI's, so
the weights have other bits than the engine's, and other ones on other numbers of ranks.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NoReturn

import numpy as np

from comm.collectives import Collectives, Peers, Prepare
from comm.communicator import Communicator, Message, Transfer, Window
from comm.job import Job, Round
from comm.launcher import launched_ranks
from comm.tree import Tree, is_power_of_two
from engine import train
from engine.config.command_line import say_once
from layers.layer import Array

WAYS = ("reduce_scatter", "allreduce")
"""Of summing; the faster one depends on the transport, so `bench.scaling` runs both."""

_COMMUNICATORS = 64  # more than jobs at a time
_TESTS = 8  # as `comm.mpi`


class MpiCollectives(Collectives):
    """Part-reduce and part-broadcast of all ranks by MPI; a power of two of ranks."""

    def __init__(self, way: str, communicator: Communicator, tree: Tree, **sizes: Any):
        from mpi4py import MPI  # noqa: PLC0415 -- it initialises MPI

        super().__init__(communicator, tree, **sizes)
        self._way, self._jobs = way, 0
        # MPI gives rank r the r-th part; here that is the one whose bits are those of the block, reversed.
        place = tree.strips_of(communicator.rank, tree.padded(1))[0].start * tree.blocks // tree.padded(1)
        ordered = MPI.COMM_WORLD.Split(0, place)
        assert ordered.rank == place
        self._communicators = [ordered.Dup() for _ in range(_COMMUNICATORS)]

    def with_others(self, communicator: Communicator, tree: Tree) -> Collectives:
        """Return the engine's own, for groups that plans make."""
        return Collectives(communicator, tree)

    def share(self, floats: int) -> Window | None:
        """Share nothing: MPI moves bytes as it sees fit."""
        return None

    def part_reduce(self, buffer: Array, peers: Peers | None = None, *, until_read: bool = True) -> Job:
        """Sum a buffer; see `Collectives`."""
        assert not peers
        return self._part_reduce_by(self._next(), buffer)

    def _part_reduce_by(self, mpi: Any, buffer: Array) -> Job:
        from mpi4py import MPI  # noqa: PLC0415 -- as above

        if self._way == "allreduce":
            yield self._round(lambda: mpi.Iallreduce(MPI.IN_PLACE, buffer), buffer)
        else:
            own = buffer[self._own(buffer)]
            part = np.empty_like(own)
            start = partial(mpi.Ireduce_scatter_block, buffer, part)
            yield self._round(start, buffer, partial(np.copyto, own, part))

    def part_broadcast(
        self,
        buffer: Array,
        peers: Peers | None = None,
        prepare: Prepare | None = None,
        *,
        until_read: bool = True,
    ) -> Job:
        """Spread each rank's strip; see `Collectives`."""
        assert not peers
        return self._part_broadcast_by(self._next(), buffer, prepare)

    def _part_broadcast_by(self, mpi: Any, buffer: Array, prepare: Prepare | None) -> Job:
        from mpi4py import MPI  # noqa: PLC0415 -- as above

        if prepare is not None:
            yield from prepare(self._own(buffer))
        yield self._round(lambda: mpi.Iallgather(MPI.IN_PLACE, buffer), buffer)

    def _own(self, buffer: Array) -> slice:
        return self.tree.strips_of(self.communicator.rank, buffer.size)[0]

    def _next(self) -> Any:
        self._jobs += 1
        return self._communicators[self._jobs % _COMMUNICATORS]

    def _round(
        self, start: Callable[[], Any], buffer: Array, then: Callable[[], object] | None = None
    ) -> Round:
        """Let MPI run a collective; the scheduler counts the bytes of a good algorithm."""
        other = (self.communicator.rank + 1) % self.communicator.size
        given = buffer[: buffer.size // self.tree.ranks * (self.tree.ranks - 1)]
        return Round(_Starter(start), [Message(other, 0, given)], then=then)


class _Starter(Communicator):
    """The communicator of a round: a post starts a collective."""

    def __init__(self, start: Callable[[], Any]):
        self._start = start

    def split(self, color: int) -> NoReturn:
        raise NotImplementedError

    def abort(self, code: int) -> NoReturn:
        raise NotImplementedError

    def post(self, sends: Sequence[Message], receives: Sequence[Message]) -> Transfer:
        """Start it."""
        return _Started(self._start())


class _Started(Transfer):
    def __init__(self, request: Any):
        self._request = request

    def test(self) -> bool:
        return any(self._request.Test() for _ in range(_TESTS))

    def wait(self) -> None:
        self._request.Wait()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.mpi_reductions",
        description="Train with MPI's own collectives instead of the engine's, for comparison.",
        epilog="All other arguments are those of python -m engine.train.",
        allow_abbrev=False,
    )
    parser.add_argument("--way", choices=WAYS, default=WAYS[0], help=f"of summing; default {WAYS[0]}")
    return parser


def main() -> int:
    """Run the train command; return its exit code."""
    options, others = _parser().parse_known_args()
    ranks = launched_ranks()
    if not is_power_of_two(ranks):
        say_once(f"got {ranks} ranks; must be a power of two")
        return 2
    return train.main(others, collectives=partial(MpiCollectives, options.way) if ranks > 1 else None)


if __name__ == "__main__":
    sys.exit(main())
