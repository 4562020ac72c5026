"""Two runs never write one folder; the lock of a process that is gone keeps nobody out."""

import os
import shutil
import subprocess
import sys

import filelock
import pytest

from comm.threads import run_ranks
from engine.config.errors import UserError
from engine.run import beginning, saver
from engine.run.finding import find_checkpoint
from engine.run.folder_lock import HOLDER, LOCK, lock_folder
from engine.run.run_folder import new_folder
from tests.engine.run.test_launch import resumed, trained
from tests.mpi.launch import REPOSITORY

HOLD = "import sys; from pathlib import Path; from engine.run.folder_lock import lock_folder; "
HOLD += "lock = lock_folder(Path(sys.argv[1]), 'out'); print('held', flush=True); sys.stdin.read()"


@pytest.fixture
def other(tmp_path):
    """Start a process that holds the lock of tmp_path until its stdin is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)],
        cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout.readline() == b"held\n"
    yield process
    process.communicate()


def test_a_folder_that_another_run_writes_is_refused_and_says_who_does(tmp_path, other):
    message = f"^out: {tmp_path}: another run writes there, process {other.pid} on {os.uname().nodename}, "
    with pytest.raises(UserError, match=f"{message}since 20.*; wait until it has ended, or give another --o"):
        new_folder(str(tmp_path), "digits", "")


def test_a_killed_run_leaves_no_lock(tmp_path, other):
    other.kill()
    other.wait()
    lock_folder(tmp_path, "out").release()


def test_a_run_that_is_being_written_is_not_resumed(tmp_path):
    trained(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    lock = lock_folder(tmp_path, "out")
    with pytest.raises(
        UserError, match=f"^resume: {tmp_path}: another run writes there, process {os.getpid()} "
    ):
        resumed(tmp_path, steps=3)
    lock.release()
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert resumed(tmp_path, steps=3)["steps"] == 3


def test_a_run_that_went_on_before_its_lock_was_free_is_not_cut_back(tmp_path, monkeypatch):
    trained(tmp_path)

    def gone_on(folder, option):
        newest = tmp_path / "checkpoints/step-00000002"
        newest.rename(newest.with_name("step-00000003"))
        return lock_folder(folder, option)

    monkeypatch.setattr(beginning, "lock_folder", gone_on)
    with pytest.raises(UserError, match=r"^resume: .* has gone on meanwhile, to step-00000003: start again$"):
        resumed(tmp_path, steps=4)
    lock_folder(tmp_path, "out").release()


def test_where_there_are_no_locks_a_warning_is_said_once(tmp_path, monkeypatch, capsys):
    def none(*_, **__):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(filelock.FileLock, "acquire", none)
    trained(tmp_path)
    assert capsys.readouterr().err.count("its file system has no locks; no second run must write there") == 1


def test_of_two_runs_that_begin_together_one_writes(tmp_path):
    ends = []

    def begin(_):
        try:
            ends.append(new_folder(str(tmp_path), "digits", ""))
        except UserError:
            ends.append(None)

    run_ranks(4, begin)
    assert sum(end is not None for end in ends) == 1


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("gone", ["moved", "removed"])
def test_a_run_whose_folder_has_become_another_runs_writes_nothing_there(tmp_path, monkeypatch, gone):
    out, saved, seen = tmp_path / "run", saver.save_checkpoint, []

    def replaced(run, state, *rest, **named):
        done = saved(run, state, *rest, **named)
        if not seen:
            seen.append(None)
            out.rename(tmp_path / "moved") if gone == "moved" else shutil.rmtree(out)
            made = trained(out, seed=7, steps=3)
            seen[:] = [contents(made), lock_folder(made, "out")]
        return done

    monkeypatch.setattr(saver, "save_checkpoint", replaced)
    with pytest.raises(
        UserError, match=r"run: is not the folder any more .*; after step \d: it could not be"
    ):
        trained(out, steps=5)
    before, lock = seen
    assert contents(out).keys() - before.keys() == {out / HOLDER, out / LOCK} - before.keys()
    assert {path: content for path, content in contents(out).items() if path in before} == before
    lock.check()
    if gone == "moved":
        assert find_checkpoint(tmp_path / "moved").name == "step-00000001"


def test_a_lock_file_that_was_removed_alone_is_made_anew(tmp_path):
    lock = lock_folder(tmp_path, "out")
    (tmp_path / LOCK).unlink()
    lock.check()
    lock.check()
    with pytest.raises(UserError, match="another run writes there"):
        lock_folder(tmp_path, "out")
    lock.release()
    lock_folder(tmp_path, "out").release()


def test_the_lock_of_another_folder_of_this_name_is_left_alone(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    lost = lock_folder(folder, "out")
    folder.rename(tmp_path / "moved")
    folder.mkdir()
    other = lock_folder(folder, "out")
    with pytest.raises(UserError, match="is not the folder any more"):
        lost.check()
    lost.withdraw()
    assert (folder / HOLDER).exists()
    other.check()
