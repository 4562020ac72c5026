"""The learning-rate range test under MPI."""

import pytest

from tests.mpi.launch import mpirun

TEST = ("-m", "engine.rates", "--threads", "1", "--steps", "30", "--from", "1e-3", "--to", "1000", "--out")


@pytest.mark.parametrize("ranks", [2, 3])
def test_the_curve_is_the_same_bits_on_any_ranks(tmp_path, ranks):
    done = {count: mpirun(count, *TEST, str(tmp_path / f"{count}.csv"), timeout=240) for count in (1, ranks)}
    assert [each.returncode for each in done.values()] == [0, 0], done[ranks].stderr
    assert done[ranks].stdout == done[1].stdout
    assert done[1].stdout.startswith("the loss has diverged at rate")
    assert (tmp_path / f"{ranks}.csv").read_bytes() == (tmp_path / "1.csv").read_bytes()


def test_a_mistake_is_said_once():
    done = mpirun(2, *TEST, "no/rates.csv")
    assert done.returncode == 2
    said = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert said == ["error: out: no/rates.csv: there is no folder no"]
