"""Runs in MLflow, in a folder of it, read back by MLflow."""

import pytest

from engine.tracking import mlflow_tracker
from engine.tracking.tracker import DONE, INTERRUPTED
from tests.engine.tracking.written import RESULTS, about, line

pytest.importorskip("mlflow", reason="needs the extra mlflow")


@pytest.fixture
def client(tmp_path, monkeypatch):
    from mlflow import MlflowClient  # noqa: PLC0415 -- an extra

    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    for name, value in mlflow_tracker._USUAL.items():
        monkeypatch.setenv(name, value)
    return MlflowClient((tmp_path / "store").as_uri())


def track(run, lines, *, ending=DONE):
    tracker = mlflow_tracker.MlflowTracker(run)
    tracker.begin()
    tracker.write(lines)
    tracker.end(ending, RESULTS)


def runs_of(client):
    return client.search_runs([client.get_experiment_by_name("lockstep").experiment_id])


def history(client, run, name="step/loss"):
    return [(each.step, each.value) for each in client.get_metric_history(run.info.run_id, name)]


def test_a_run_that_goes_on_is_the_same_run_with_each_step_once(tmp_path, client):
    lines = [line(1, 4.0), line(2, 3.0), line(3, 2.0)]
    track(about(tmp_path / "run", place="store"), lines, ending=INTERRUPTED)
    (run,) = runs_of(client)
    assert (run.info.status, run.info.run_name, run.data.tags["ended"]) == ("KILLED", "run", "interrupted")
    again = [line(3, 2.0), line(4, 1.0), line(4, 0.5, "epoch")]
    track(about(tmp_path / "run", place="store", step=2), again)
    (run,) = runs_of(client)
    assert (run.info.status, run.data.tags["ended"]) == ("FINISHED", "done")
    assert history(client, run) == [(1, 4.0), (2, 3.0), (3, 2.0), (4, 1.0)]
    assert history(client, run, "epoch/loss") == [(4, 0.5)]
    assert run.data.params["schedule.rate"] == "0.1"
    assert run.data.tags["weights_sha256"] == "abc"
    assert run.data.metrics["result/test_accuracy"] == 0.75


def test_what_failed_half_way_is_not_there_twice(tmp_path, client):
    tracker = mlflow_tracker.MlflowTracker(about(tmp_path / "run", place="store"))
    tracker.begin()
    tracker.write([line(1, 4.0)])
    tracker.begin()
    tracker.write([line(1, 4.0), line(2, 3.0)])
    (run,) = runs_of(client)
    assert history(client, run) == [(1, 4.0), (2, 3.0)]


def test_a_run_with_another_rate_is_another_run_that_names_the_one_before(tmp_path, client):
    track(about(tmp_path / "run", place="store"), [line(1, 4.0), line(2, 3.0)])
    track(about(tmp_path / "run", place="store", step=1, is_changed=True), [line(2, 9.0)])
    after, before = runs_of(client)
    assert after.data.tags["lockstep.goes_on_from"] == before.info.run_id
    assert history(client, after) == [(2, 9.0)]
    assert history(client, before) == [(1, 4.0), (2, 3.0)]
