"""What the launcher says of an end."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from engine.run import supervise
from engine.run.supervise import End, exit_code_of_wish


@pytest.mark.parametrize(
    ("status", "lost", "code", "said"),
    [
        (0, None, 0, ""),  # the wish came when all was done
        (130, None, 130, "interrupted\n"),
        (-15, "a rank has died", 130, "interrupted\n"),
        (0, "all ranks have died", 130, "interrupted\n"),  # before they listened, which mpirun calls success
        (2, None, 2, ""),
    ],
)
def test_a_run_that_was_asked_to_end_says_so_unless_it_was_done(status, lost, code, said, capsys):
    end = End(status, was_asked=True, said_interrupted=False, said_why=False, lost=lost, error=None)
    assert exit_code_of_wish(end) == code
    assert capsys.readouterr().err == said


LAUNCHER = (
    "import subprocess, sys, time; subprocess.{}([sys.executable, '-c', 'import time; time.sleep({})']); {}"
)


def waited_for(code, monkeypatch):
    """Wait for a launcher, which has two seconds to notice that what it has started has ended."""
    monkeypatch.setattr(supervise, "_LOOK_S", 0.05)
    monkeypatch.setattr(supervise, "_UNNOTICED_S", 2.0)
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        supervise._wait(process, SimpleNamespace(made=False), SimpleNamespace(has_spoken=True))
    return process.returncode


def test_an_mpirun_that_does_not_notice_the_end_of_its_ranks_is_ended(monkeypatch, capsys):
    code = LAUNCHER.format("Popen", 0.5, "time.sleep(60)")  # nor waits for what it has started
    assert waited_for(code, monkeypatch) == -15
    assert "mpirun has not noticed that all that it started has ended" in capsys.readouterr().err


def test_an_mpirun_whose_ranks_live_is_waited_for(monkeypatch, capsys):
    assert waited_for(LAUNCHER.format("run", 4, "sys.exit(3)"), monkeypatch) == 3
    assert capsys.readouterr().err == ""


def test_an_mpirun_that_has_started_nothing_here_is_waited_for(monkeypatch):
    assert waited_for("import sys, time; time.sleep(4); sys.exit(5)", monkeypatch) == 5
