"""The training loop: which checkpoints it keeps, and what its figures mean."""

import json

import pytest

from engine.config.errors import UserError
from engine.data.dataset import DataSource
from engine.run.checkpoint import find_checkpoint, read_state, read_tensors
from engine.run.evaluator import Evaluator
from engine.run.kept_checkpoints import best_of
from tests.engine.cluster import Samples, changed, train
from tests.engine.graphs import perceptron
from tests.engine.run.test_launch import trained

DATA = DataSource(Samples.draw((12,), 5, 64), Samples.draw((12,), 5, 24))


def lines(folder, kind):
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [each for each in records if each["kind"] == kind]


def kept(folder):
    return sorted(int(path.name[5:]) for path in (folder / "checkpoints").glob("step-*"))


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_the_training_loss_of_an_epoch_is_the_mean_over_its_steps(tmp_path, ranks):
    train(ranks, perceptron(), changed(steps=10), data=DATA, folder=tmp_path)
    losses = [each["loss"] for each in lines(tmp_path, "step")]
    means = [sum(losses[first:last]) / (last - first) for first, last in ((0, 4), (4, 8), (8, 10))]
    assert [each["epoch"] for each in lines(tmp_path, "epoch")] == [1, 2, 2.5]
    assert [each["training_loss"] for each in lines(tmp_path, "epoch")] == pytest.approx(means, rel=1e-12)
    assert [each["final_loss"] for each in lines(tmp_path, "epoch")] == [losses[3], losses[7], losses[9]]


def test_the_training_loss_is_the_same_bits_on_any_ranks_and_over_a_resumption_in_the_epoch(tmp_path):
    graph = perceptron()
    train(1, graph, changed(steps=8), data=DATA, folder=tmp_path / "whole")
    train(3, graph, changed(steps=6, checkpoint_steps=6), data=DATA, folder=tmp_path / "part")
    saved = find_checkpoint(tmp_path / "part")
    restore = read_state(saved), read_tensors(saved, graph)
    train(2, graph, changed(steps=8), data=DATA, folder=tmp_path / "rest", restore=restore)
    whole, rest = (lines(tmp_path / name, "epoch")[-1] for name in ("whole", "rest"))
    assert rest["training_loss"] == whole["training_loss"]


def test_a_checkpoint_of_an_earlier_version_knows_no_loss_of_its_epoch(tmp_path, capsys):
    graph = perceptron()
    train(1, graph, changed(steps=6, checkpoint_steps=6), data=DATA, folder=tmp_path / "part")
    saved = find_checkpoint(tmp_path / "part")
    state = json.loads((saved / "state.json").read_text())
    for name in ("epoch_loss", "started_in", "files", "class_names"):
        del state[name]
    (saved / "state.json").write_text(json.dumps(state))
    restore = read_state(saved), read_tensors(saved, graph)
    capsys.readouterr()
    train(2, graph, changed(steps=12), data=DATA, folder=tmp_path / "rest", restore=restore)
    first, second = (each["training_loss"] for each in lines(tmp_path / "rest", "epoch"))
    assert first is None
    assert second > 0
    assert "epoch 2: test loss" in capsys.readouterr().err


@pytest.mark.parametrize("keep", [1, 3])
def test_as_many_checkpoints_are_kept_as_the_recipe_says(tmp_path, keep):
    train(2, perceptron(), changed(steps=6, checkpoint_steps=1, keep_checkpoints=keep), folder=tmp_path)
    assert kept(tmp_path) == [1, 2, 3, 4, 5, 6][-keep:]


@pytest.fixture
def accuracies(monkeypatch):
    """Make evaluations return these accuracies in turn, on each rank."""
    wanted = [0.2, 0.6, 0.6, 0.5, 0.4]

    def evaluate(self, *_):
        return 1.0, wanted[self.context.step // 4]

    monkeypatch.setattr(Evaluator, "evaluate", evaluate)


@pytest.mark.usefixtures("accuracies")
@pytest.mark.parametrize("fields", [{"checkpoint_every": 1}, {"checkpoint_steps": 3}])
@pytest.mark.parametrize("ranks", [1, 2])
def test_the_best_checkpoint_is_kept_on_request(tmp_path, ranks, fields):
    recipe = changed(steps=20, keep_checkpoints=1, keep_best=True, **fields)
    train(ranks, perceptron(), recipe, data=DATA, folder=tmp_path)
    assert best_of(tmp_path) == (8, 0.6)
    assert kept(tmp_path) == [8, 20]
    assert json.loads((tmp_path / "checkpoints/best.json").read_text()) == {"step": 8, "test_accuracy": 0.6}


@pytest.mark.usefixtures("accuracies")
def test_a_resumed_run_knows_the_best_of_before(tmp_path):
    graph, fields = perceptron(), {"checkpoint_every": 1, "keep_checkpoints": 1, "keep_best": True}
    train(1, graph, changed(steps=12, **fields), data=DATA, folder=tmp_path)
    saved = find_checkpoint(tmp_path)
    restore = read_state(saved), read_tensors(saved, graph)
    train(2, graph, changed(steps=20, **fields), data=DATA, folder=tmp_path, restore=restore)
    assert kept(tmp_path) == [8, 20]


def test_a_best_one_needs_test_samples(tmp_path):
    with pytest.raises(
        UserError, match=r"^keep_best: synthetic has no test samples to choose a checkpoint by"
    ):
        trained(tmp_path / "run", model="cifar10", data="synthetic", batch=16, keep_best=True)
