"""Signals at every moment of a run: it stops between steps with a checkpoint, or finishes."""

import os
import signal
from dataclasses import dataclass, field

import pytest

from comm.threads import single_rank
from engine.data.dataset import DataSource
from engine.run.checkpoint import find_checkpoint
from tests.engine.cluster import Samples, changed, train_rank
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


def interrupted(folder, *, steps, train=Samples, test=None, **fields):
    """Train on this thread, where signals arrive; an epoch has two steps."""
    graph = perceptron()
    data = DataSource(train.draw((12,), 5, 32), test.draw((12,), 5, 32) if test else None)
    recipe = changed(steps=steps, **fields)
    return train_rank(single_rank(), graph, recipe, data, folder=folder)[0]


@pytest.mark.parametrize("kind", [Interrupting, Terminating])
def test_an_interrupted_run_saves_although_checkpoints_are_off(tmp_path, kind):
    results = interrupted(tmp_path, steps=1000, train=kind, checkpoint_every=0)
    assert results["interrupted"]
    assert 0 < results["steps"] < 1000
    assert find_checkpoint(tmp_path).name == f"step-{results['steps']:08d}"
    assert results["test_accuracy"] is None


def test_a_signal_during_an_evaluation_stops_after_the_next_step(tmp_path):
    results = interrupted(tmp_path, steps=10, test=Interrupting, checkpoint_every=1)
    assert results["interrupted"]
    assert results["steps"] == 3
    assert results["test_accuracy"] is not None
    assert find_checkpoint(tmp_path).name == "step-00000003"


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
