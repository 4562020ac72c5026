"""Runs for Weights & Biases, written offline and read back by its own messages."""

import json
import time

import pytest

from engine.tracking.notes import noted
from engine.tracking.tracker import DONE, INTERRUPTED
from engine.tracking.wandb_tracker import WandbTracker
from tests.engine.tracking.written import RESULTS, about, line, wandb_history, wandb_records

pytest.importorskip("wandb", reason="needs the extra wandb")


WAIT_S = 30.0


@pytest.fixture(autouse=True)
def _unset(monkeypatch):
    for name in ("WANDB_MODE", "WANDB_PROJECT", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)


def _is_whole(folder):
    exits = [record for record in wandb_records(folder) if record.HasField("exit")]
    return len(exits) == len(list(folder.glob("wandb/offline-run-*")))


def track(run, lines, *, ending=DONE):
    tracker = WandbTracker(run)
    tracker.begin()
    tracker.write(lines)
    tracker.end(ending, RESULTS)
    ended = time.monotonic() + WAIT_S
    while not _is_whole(run.folder):  # its service writes the rest when nobody waits for it any more
        assert time.monotonic() < ended
        time.sleep(0.05)


def test_a_run_that_goes_on_is_the_same_run_with_each_step_once(tmp_path):
    folder = tmp_path / "run"
    track(about(folder), [line(1, 4.0), line(2, 3.0), line(3, 2.0)], ending=INTERRUPTED)
    assert len(list(folder.glob("wandb/offline-run-*"))) == 1
    first = noted(folder, "wandb", "")["id"]
    track(about(folder, step=2), [line(3, 2.0), line(4, 1.0), line(4, 0.5, "epoch")])
    found = wandb_history(folder)
    assert found["step/loss"] == [(1, 4.0), (2, 3.0), (3, 2.0), (4, 1.0)]
    assert found["epoch/loss"] == [(4, 0.5)]
    runs = [record.run for record in wandb_records(folder) if record.HasField("run")]
    assert {run.run_id for run in runs} == {first}
    assert {run.project for run in runs} == {"lockstep"}
    config = {each.key: json.loads(each.value_json) for run in runs for each in run.config.update}
    assert (config["batch"], config["schedule.rate"]) == (64, 0.1)


def test_the_summary_has_the_results_and_an_interrupted_run_is_marked(tmp_path):
    track(about(tmp_path / "run"), [line(1, 4.0)], ending=INTERRUPTED)
    records = list(wandb_records(tmp_path / "run"))
    summary = {
        "/".join(each.nested_key) or each.key: json.loads(each.value_json)
        for record in records
        for each in record.summary.update
    }
    assert (summary["ended"], summary["weights_sha256"]) == ("interrupted", "abc")
    assert summary["test_accuracy"] == 0.75
    assert [record.exit.exit_code for record in records if record.HasField("exit")] == [130]
