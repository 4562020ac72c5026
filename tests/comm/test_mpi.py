"""When MPI is started, and messages cut for it; no MPI is started here."""

import os
import subprocess
import sys

import numpy as np
import pytest

from comm import mpi
from comm.collectives import CHUNK_FLOATS
from comm.mpi import EAGER_BYTES, set_up, world


def test_what_the_user_says_to_open_mpi_stays() -> None:
    eager, idle = "OMPI_MCA_btl_tcp_eager_limit", "OMPI_MCA_mpi_yield_when_idle"
    cases: list[tuple[dict[str, str], str]] = [({eager: "4096", idle: "1"}, "4096"), ({}, str(EAGER_BYTES))]
    for given, found in cases:
        environment = dict(given)
        set_up(environment, yield_when_idle=True)
        assert environment[eager] == found
        assert environment.get(idle) == given.get(idle)


def test_open_mpi_yields_only_where_its_own_waits_are_long() -> None:
    environment = {"OMPI_MCA_mpi_yield_when_idle": "1"}
    set_up(environment, yield_when_idle=False)
    assert environment["OMPI_MCA_mpi_yield_when_idle"] == "0"


def launched_with(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    for name in os.environ:
        if name.startswith(("OMPI_", "PMI", "SLURM_")):
            monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    "environment", [{}, {"OMPI_COMM_WORLD_SIZE": "1", "PMIX_RANK": "0"}, {"SLURM_STEP_NUM_TASKS": "1"}]
)
def test_a_rank_alone_starts_no_mpi(monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]) -> None:
    monkeypatch.setitem(sys.modules, "mpi4py", None)  # whoever imports it gets an ImportError
    monkeypatch.delitem(sys.modules, "mpi4py.MPI", raising=False)
    launched_with(monkeypatch, environment)
    monkeypatch.setattr(mpi, "set_up", lambda *_, **__: pytest.fail("MPI is set up"))
    assert world().size == 1


def test_several_ranks_without_mpi_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    launched_with(monkeypatch, {"OMPI_COMM_WORLD_SIZE": "2"})
    with pytest.raises(mpi.LaunchError, match="started 2 processes but no MPI library was found"):
        world()


def test_importing_comm_does_not_import_mpi4py() -> None:
    modules = "comm.mpi, comm.failure, comm.collectives, comm.comm_thread, comm.threads, comm.tree, sys"
    code = f"import {modules}; sys.exit('mpi4py' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(("floats", "lengths"), [(0, [0]), (1, [4]), (4, [16]), (10, [16, 16, 8])])
def test_long_arrays_are_cut_into_pieces_and_an_empty_one_is_a_message(
    monkeypatch: pytest.MonkeyPatch, floats: int, lengths: list[int]
) -> None:
    monkeypatch.setattr(mpi, "_PIECE_BYTES", 16)
    array = np.arange(floats, dtype=np.float32)
    pieces = mpi._pieces(array)
    assert [piece.nbytes for piece in pieces] == lengths
    assert b"".join(piece.tobytes() for piece in pieces) == array.tobytes()
    assert all(np.shares_memory(piece, array) for piece in pieces if piece.size)


def test_a_chunk_is_no_longer_than_what_leaves_at_once() -> None:
    assert CHUNK_FLOATS * 4 <= EAGER_BYTES
