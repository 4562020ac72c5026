"""How a run gets on, in words."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time

import pytest

from engine.report import progress
from engine.report.figures import NOTHING
from engine.report.progress import BROKEN, OVER, RUNNING, SILENT
from tests.engine.report.test_followed_run import followed
from tests.engine.report.written import RESULTS, write_run


def hold(folder, process):
    folder.mkdir(exist_ok=True)
    holder = {"pid": process, "host": socket.gethostname(), "since": "2026-11-28 03:00:00"}
    (folder / ".lockstep.lock.json").write_text(json.dumps(holder))
    return folder


def state(folder, *, later=0.0):
    run = followed(folder)
    found = progress.state(run, time.time() + later)
    return found.kind, found.words.split(" since ")[0]


def ended_process():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_run_starts_runs_falls_silent_and_is_over(tmp_path):
    folder = hold(tmp_path / "run", os.getpid())
    assert state(folder) == (RUNNING, "starting")
    write_run(folder, results=None)
    assert state(folder) == (RUNNING, "running")
    assert state(folder, later=59.0) == (RUNNING, "running")
    assert state(folder, later=61.0) == (SILENT, "silent")
    write_run(folder)
    assert state(folder, later=1e6) == (OVER, "done")
    write_run(folder, results={**RESULTS, "interrupted": True})
    assert state(folder) == (OVER, "interrupted")
    run = followed(folder)
    shutil.rmtree(folder)
    run.refresh()
    assert progress.state(run, time.time()).words == "its folder is gone"


def test_a_process_that_is_no_more_has_ended_without_results(tmp_path):
    folder = write_run(hold(tmp_path / "run", ended_process()), results=None)
    assert state(folder) == (RUNNING, "running"), "so new a sign counts more"
    assert state(folder, later=11.0) == (BROKEN, "ended without results")
    hold(folder, os.getpid())
    assert state(folder, later=11.0) == (RUNNING, "running")


@pytest.mark.parametrize("process", [0, -1, 1.5, "1", None, 1 << 40, True])
def test_an_odd_process_is_not_looked_for(tmp_path, process):
    assert state(hold(tmp_path / "run", process), later=30.0) == (RUNNING, "starting")


def test_a_run_of_long_steps_is_not_silent_so_soon(tmp_path):
    folder = write_run(tmp_path / "run", results=None)
    with (folder / "metrics.jsonl").open("a") as file:
        for step in range(41, 200):
            file.write(json.dumps({"kind": "step", "step": step, "epoch": 4, "seconds": 30.0}) + "\n")
    assert state(folder, later=599.0)[0] == RUNNING
    assert state(folder, later=601.0)[0] == SILENT


def test_a_run_that_is_seen_to_grow_lives_whatever_the_clock_of_its_disk_says(tmp_path):
    folder = write_run(tmp_path / "run", results=None)
    run = followed(folder)
    for path in (folder, *folder.iterdir()):
        os.utime(path, (1e9, 1e9))
    assert progress.state(run, time.time() + 61.0).kind == SILENT
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "step", "step": 41, "epoch": 4, "loss": 1.0}\n')
    os.utime(folder / "metrics.jsonl", (1e9, 1e9))
    run.refresh()
    assert progress.state(run, time.time()).kind == RUNNING


def test_facts_say_how_far_and_how_fast_and_when_it_will_be_over(tmp_path):
    folder = write_run(tmp_path / "run", steps=20, results=None)
    found = progress.facts(followed(folder), time.time())
    assert found["step"] == "20 of 40"
    assert (
        found["loss"] == f"{json.loads((folder / 'metrics.jsonl').read_text().splitlines()[-2])['loss']:.4g}"
    )
    assert found["epoch"] == "2.00 of 4"
    assert found["left"] == "0:00", "20 steps of 2 ms"
    assert 25_000 < float(found["speed"].replace(",", "")) < 40_000
    assert found["exposed"] == "0 µs, 0.0 %"
    assert found["accuracy"] == "99.0 %"
    assert found["sign"].count(":") == 2


def test_before_an_epoch_is_over_nobody_knows_how_many_steps_there_are(tmp_path):
    folder = write_run(tmp_path / "run", steps=5, results=None)
    found = progress.facts(followed(folder), time.time())
    assert (found["step"], found["epoch"], found["left"]) == ("5", "in the 1.", NOTHING)
    (folder / "recipe.toml").write_text("epochs = 1\nsteps = 12\n")
    found = progress.facts(followed(folder), time.time())
    assert (found["step"], found["left"]) == ("5 of 12", "0:00")


def test_first_steps_which_compile_do_not_count(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    lines = [
        {"kind": "step", "step": n, "epoch": 0, "seconds": 100.0 if n == 1 else 1.0} for n in range(1, 31)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "recipe.toml").write_text("steps = 90\n")
    assert progress.facts(followed(folder), time.time())["left"] == "1:00"


def test_without_a_file_there_is_nothing_to_say(tmp_path):
    run = followed(tmp_path)
    found = progress.facts(run, time.time())
    assert {found.pop("state")} == {"starting"}
    assert set(found.values()) == {NOTHING}
    assert (progress.host(run), progress.ranks(run), list(progress.faults(run))) == ("", None, [])
    assert len(progress.shown_ranks(run)) == 1


def test_what_was_survived_is_told_from_results_and_restarts(tmp_path):
    losses = [
        {"ranks": [3, 5], "hosts": ["b", "c"], "left": 6, "step": 1200},
        {"ranks": [0], "hosts": ["a"], "left": 1, "step": None},
    ]
    folder = write_run(tmp_path / "run", results={**RESULTS, "losses": losses})
    restart = {
        "time": "2026-11-28T03:04:05+0000",
        "cause": "rank 1 on b\nwas ended",
        "from_step": 40,
        "ranks": 3,
    }
    (folder / "restarts.jsonl").write_text(f'{json.dumps(restart)}\n{{"from_step": 0}}\n17\n{{"cau')
    run = followed(folder)
    assert list(progress.faults(run)) == [
        "lost rank 3, 5 on b, c: 6 ranks went on from step 1,200",
        "lost rank 0 on a: 1 rank went on from the newest checkpoint or the beginning",
        "2026-11-28 03:04:05: started again from step 40 with 3 ranks: rank 1 on b\\nwas ended",
        "started again from the beginning: for a reason that is not noted",
    ]
    assert progress.ranks(run) == 2
    assert progress.peak_bytes(run, 1) == 204_000_000
    (folder / "run.json").unlink()
    (folder / "restarts.jsonl").write_text(json.dumps(restart) + "\n")
    assert progress.ranks(followed(folder)) == 3


def test_a_time_of_another_day_has_its_date():
    now = time.mktime((2026, 11, 28, 12, 0, 0, 0, 0, -1))
    assert progress.when(now - 3661, now) == "10:58:59"
    assert progress.when(now - 24 * 3600, now) == "2026-11-27 12:00"
    for odd in (None, 1e300, float("inf")):
        assert progress.when(odd, now) == NOTHING
