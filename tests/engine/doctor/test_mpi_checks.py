"""What is said of an MPI, and of ranks that did not come."""

import sys

import pytest

from engine.doctor import mpi_checks, mpi_probe, mpi_start
from engine.doctor.finding import NOTE, OK, PROBLEM
from engine.doctor.mpi_checks import judged
from engine.doctor.mpi_start import Probe, probe_mpi

WHOLE = {
    "library": "Open MPI v5.0.8", "standard": "3.1", "threads": "multiple", "ranks": 2,
    "survives": True, "shares": True,
}  # fmt: skip


def states(probe):
    """Return the states by what was looked at."""
    return {each.check: each.state for each in judged(probe)}


def test_two_ranks_that_found_each_other_are_all_that_is_wanted():
    everything = {"MPI": OK, "fault tolerance": OK, "memory of ranks": OK}
    assert states(Probe("mpirun", 2, WHOLE)) == everything


@pytest.mark.parametrize(
    ("changed", "wrong"),
    [
        ({"ranks": 1}, {"MPI": PROBLEM}),
        ({"threads": "single"}, {"MPI": PROBLEM}),
        ({"survives": False}, {"fault tolerance": NOTE}),
        ({"shares": False}, {"memory of ranks": NOTE}),
        ({"error": "no library"}, {"MPI": PROBLEM}),
    ],
)
def test_what_is_missing_is_said(changed, wrong):
    found = states(Probe("mpirun", 2, {**WHOLE, **changed}))
    assert {name: state for name, state in found.items() if state != OK} == wrong


def test_ranks_of_a_launcher_may_be_on_hosts_that_share_nothing():
    assert "memory of ranks" not in states(Probe("the launcher", 2, {**WHOLE, "shares": False}))


def test_a_process_alone_has_nobody_to_lose():
    assert states(Probe("", 1, {**WHOLE, "ranks": 1})) == {"MPI": OK}


def test_an_mpirun_that_fails_is_quoted():
    command = [sys.executable, "-c", "import sys; sys.exit('-----\\n  no slots here\\n-----')"]
    probe = probe_mpi(command)
    assert (probe.by, probe.answer, probe.said) == ("mpirun", None, "no slots here")
    (found,) = judged(probe)
    assert found.found == "2 ranks of mpirun: no slots here"


def test_an_mpirun_that_says_nothing_has_an_exit_code():
    assert probe_mpi([sys.executable, "-c", "import sys; sys.exit(7)"]).said == "ended with exit code 7"


def test_an_mpirun_that_hangs_is_ended(monkeypatch):
    monkeypatch.setattr(mpi_start, "PATIENCE_S", 0.2)
    probe = probe_mpi([sys.executable, "-c", "import time; time.sleep(600)"])
    assert probe.said == "no answer after 0.2 s"


def test_an_mpirun_that_cannot_be_started_is_said(tmp_path):
    assert "No such file" in probe_mpi([str(tmp_path / "mpirun")]).said


def test_an_answer_is_found_among_other_lines():
    assert mpi_probe.answer_in(f'noise\n1: {mpi_probe.MARK}{{"ranks": 2}}\nnoise\n') == {"ranks": 2}
    assert mpi_probe.answer_in("noise\n") is None


@pytest.mark.parametrize(("srun", "state"), [("/usr/bin/srun", NOTE), (None, PROBLEM)])
def test_without_mpirun_srun_will_do(monkeypatch, srun, state):
    monkeypatch.setattr(mpi_checks, "_mpirun", lambda: ())
    monkeypatch.setattr(mpi_checks, "probe_mpi", lambda _: Probe("", 1, {**WHOLE, "ranks": 1}))
    monkeypatch.setattr("shutil.which", lambda _: srun)
    assert {each.check: each.state for each in mpi_checks.mpi()} == {"mpirun": state, "MPI": OK}
