"""Evaluation under MPI."""

import json
import shutil

import pytest

from engine.evaluate import main
from tests.mpi.launch import mpirun


def evaluated(ranks, arguments):
    """Return the exit code, the output and the errors of the command on several ranks."""
    given = [*map(str, arguments), "--threads", "1", "--json"]
    done = mpirun(ranks, "-m", "engine.evaluate", *given, timeout=120)
    return done.returncode, done.stdout, done.stderr


def alone(capsys, arguments):
    """Return the exit code and the output of the command on one rank."""
    code = main([*map(str, arguments), "--threads", "1", "--json"])
    return code, capsys.readouterr().out


@pytest.mark.parametrize("ranks", [2, 3])
def test_the_figures_are_the_same_bits_on_any_ranks(digits_run, capsys, ranks):
    options = (digits_run.folder, "--tta", "mirror", "--batch", 7)
    code, out = alone(capsys, options)
    assert json.loads(out)["samples"] == 360
    assert evaluated(ranks, options)[:2] == (code, out)


def test_what_one_rank_cannot_read_is_said_once_and_can_be_left_out(photos_run, photos, tmp_path, capsys):
    shutil.copytree(photos / "test", tmp_path / "data")
    for name in ("blue/00.png", "red/04.png"):  # the first and the last sample, on different ranks
        (tmp_path / "data" / name).write_bytes(b"")
    options = (photos_run.folder, "--data", tmp_path / "data", "--batch", 4)
    code, out, err = evaluated(2, options)
    assert (code, out) == (2, "")
    assert [line for line in err.splitlines() if line.startswith("error: ")] == [
        f"error: {tmp_path}/data/blue/00.png: cannot be decoded: it is empty"
    ]
    assert "Traceback" not in err
    skipping = (*options, "--on-bad-sample", "skip")
    code, out, _ = evaluated(2, skipping)
    assert (code, out) == alone(capsys, skipping)
    assert len(json.loads(out)["skipped"]) == 2
