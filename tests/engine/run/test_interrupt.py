"""Signals at every moment of a run: it stops between steps with a checkpoint, or finishes."""

import json
import os
import signal
from dataclasses import dataclass, field

import pytest

from comm.threads import single_rank
from engine.data.dataset import DataSource
from engine.run.callbacks import Callback
from engine.run.checkpoint import read_state, read_tensors
from engine.run.finding import find_checkpoint
from engine.run.session import run_session
from tests.engine.cluster import Samples, changed, train, train_rank
from tests.engine.graphs import perceptron


@dataclass(frozen=True, eq=False)
class Interrupting(Samples):
    """Sends Ctrl-C to this process when the first sample is read, once: a second one would be in earnest."""

    sent: list[int] = field(default_factory=list)
    number = signal.SIGINT

    def read(self, index, x):
        if index == 0 and not self.sent:
            self.sent.append(self.number)
            os.kill(os.getpid(), self.number)
        return super().read(index, x)


@dataclass(frozen=True, eq=False)
class Terminating(Interrupting):
    """Sends SIGTERM."""

    number = signal.SIGTERM


def epochs(folder):
    """Return what the log says of evaluations."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["kind"] == "epoch"]


def interrupted(folder, *, steps, train=Samples, test=None, restore=None, **fields):
    """Train on this thread, where signals arrive; an epoch has two steps."""
    graph = perceptron()
    data = DataSource(train.draw((12,), 5, 32), test.draw((12,), 5, 32) if test else None)
    recipe = changed(steps=steps, **fields)
    folder.mkdir(exist_ok=True)
    return train_rank(single_rank(), graph, recipe, data, folder=folder, restore=restore)[0]


@pytest.mark.parametrize("kind", [Interrupting, Terminating])
def test_an_interrupted_run_saves_although_checkpoints_are_off(tmp_path, kind):
    results = interrupted(tmp_path, steps=1000, train=kind, checkpoint_every=0)
    assert results["interrupted"]
    assert 0 < results["steps"] < 1000
    assert find_checkpoint(tmp_path).name == f"step-{results['steps']:08d}"
    assert results["test_accuracy"] is None


@pytest.mark.parametrize(
    "fields", [{}, {"keep_best": "test_accuracy"}, {"stop_after": 3, "checkpoint_every": 0}]
)
def test_a_signal_during_an_evaluation_cuts_it_short_and_it_is_made_when_the_run_goes_on(tmp_path, fields):
    fields = {"steps": 10, "checkpoint_every": 1, **fields}
    results = interrupted(tmp_path / "cut", test=Interrupting, **fields)
    assert results["interrupted"]
    assert results["steps"] == 2
    assert results["test_accuracy"] is None
    saved = find_checkpoint(tmp_path / "cut")
    assert saved.name == "step-00000002"
    assert read_state(saved).best is None
    assert epochs(tmp_path / "cut") == []
    again = (read_state(saved), read_tensors(saved, perceptron()))
    assert not interrupted(tmp_path / "cut", test=Samples, restore=again, **fields)["interrupted"]
    interrupted(tmp_path / "whole", test=Samples, **fields)
    assert epochs(tmp_path / "cut") == epochs(tmp_path / "whole") != []


def test_ranks_of_which_one_is_asked_to_end_cut_an_evaluation_short_together(tmp_path, monkeypatch):
    class Stopping(Callback):
        def on_step(self, run, record):
            if run.rank == 1 and record["step"] == 2:
                run.stop()

    monkeypatch.setattr("tests.engine.cluster.run_session", lambda made: run_session(made, [Stopping()]))
    data = DataSource(Samples.draw((12,), 5, 32), Samples.draw((12,), 5, 32))
    results, _ = train(3, perceptron(), changed(steps=10, checkpoint_every=1), data=data, folder=tmp_path)
    assert (results["interrupted"], results["steps"], results["test_accuracy"]) == (True, 2, None)
    assert epochs(tmp_path) == []


def test_a_signal_during_the_last_evaluation_lets_the_run_finish(tmp_path):
    results = interrupted(tmp_path, steps=3, test=Interrupting, evaluate_every=0)
    assert not results["interrupted"]
    assert results["test_accuracy"] is not None
    assert (tmp_path / "run.json").exists()


def test_a_signal_during_the_last_step_lets_the_run_finish(tmp_path):
    results = interrupted(tmp_path, steps=1, train=Interrupting, test=Samples)
    assert not results["interrupted"]
    assert results["test_accuracy"] is not None


def test_signals_are_answered_as_before_afterwards(tmp_path):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    interrupted(tmp_path, steps=1)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
