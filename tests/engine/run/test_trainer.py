"""The training loop: which checkpoints it keeps, and what its figures mean."""

import json

import pytest

from engine.config.errors import UserError
from engine.data.dataset import DataSource
from engine.run.best import Best
from engine.run.checkpoint import read_state, read_tensors
from engine.run.evaluator import Evaluator
from engine.run.finding import find_checkpoint
from engine.run.kept_checkpoints import best_of
from engine.run.run_folder import rewind
from engine.run.trainer import Trainer
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

    def evaluate(self, *_, **__):
        return 1.0, wanted[self.context.step // 4]

    monkeypatch.setattr(Evaluator, "evaluate", evaluate)


@pytest.mark.usefixtures("accuracies")
@pytest.mark.parametrize("fields", [{"checkpoint_every": 1}, {"checkpoint_steps": 3}])
@pytest.mark.parametrize("ranks", [1, 2])
def test_the_best_checkpoint_is_kept_on_request(tmp_path, ranks, fields):
    recipe = changed(steps=20, keep_checkpoints=1, keep_best=True, **fields)
    train(ranks, perceptron(), recipe, data=DATA, folder=tmp_path)
    assert best_of(tmp_path) == Best("test_accuracy", 0.6, 8, evaluated=8)
    assert kept(tmp_path) == [8, 20]
    noted = json.loads((tmp_path / "checkpoints/best.json").read_text())
    assert noted == {"format": 1, "metric": "test_accuracy", "value": 0.6, "step": 8}


@pytest.mark.usefixtures("accuracies")
def test_a_resumed_run_knows_the_best_of_before(tmp_path):
    graph, fields = perceptron(), {"checkpoint_every": 1, "keep_checkpoints": 1, "keep_best": True}
    train(1, graph, changed(steps=12, **fields), data=DATA, folder=tmp_path)
    saved = find_checkpoint(tmp_path)
    restore = read_state(saved), read_tensors(saved, graph)
    train(2, graph, changed(steps=20, **fields), data=DATA, folder=tmp_path, restore=restore)
    assert kept(tmp_path) == [8, 20]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"keep_best": True},
            "keep_best: synthetic has no test samples to choose a checkpoint by; must be off",
        ),
        ({"stop_after": 2}, "stop_after: synthetic has no test samples to choose a checkpoint by; must be 0"),
        (
            {"stop_after": 2, "evaluate_every": 0},
            "evaluate_every: got 0 with stop_after = 2, which compares evaluations; must be at least 1",
        ),
        ({"keep_best": "acc"}, 'keep_best: got "acc"; must be one of off, test_accuracy, test_loss'),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path, changes, message):
    with pytest.raises(UserError) as refused:
        trained(tmp_path / "run", model="cifar10", data="synthetic", batch=16, **changes)
    assert str(refused.value) == message


@pytest.fixture
def figures(monkeypatch):
    """Make evaluations return these losses and accuracies in turn, on each rank."""
    losses, accuracies = [0, 5, 4, 3, 3, 2, 2, 2, 2, 2, 2], [0, 0.2, 0.6, 0.6, 0.5, 0.4, 0.3, 0.9, 0, 0, 0]

    def measure(self):
        progress = self.progress
        progress.evaluated_step, epoch = progress.step, progress.step // 4
        progress.results |= {"test_loss": float(losses[epoch]), "test_accuracy": float(accuracies[epoch])}
        return True

    monkeypatch.setattr(Trainer, "_measure", measure)


def run_json(folder):
    return json.loads((folder / "run.json").read_text())


@pytest.mark.usefixtures("figures")
@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize(
    ("fields", "steps", "best"),
    [
        ({"stop_after": 1}, 12, ("test_accuracy", 0.6, 8, None)),
        ({"stop_after": 3}, 20, ("test_accuracy", 0.6, 8, None)),
        ({"stop_after": 3, "keep_best": "test_accuracy"}, 20, ("test_accuracy", 0.6, 8, 8)),
        ({"stop_after": 3, "keep_best": "test_loss"}, 32, ("test_loss", 2.0, 20, 20)),
        ({"stop_after": 1, "keep_best": "test_loss"}, 16, ("test_loss", 3.0, 12, 12)),
        ({"stop_after": 5, "keep_best": "test_accuracy"}, 40, ("test_accuracy", 0.9, 28, 28)),
    ],
)
def test_a_run_stops_early_after_so_many_evaluations_without_a_better_one(
    tmp_path, ranks, fields, steps, best
):
    recipe = changed(steps=40, keep_checkpoints=1, checkpoint_every=1, **fields)
    results, _ = train(ranks, perceptron(), recipe, data=DATA, folder=tmp_path)
    metric, value, step, checkpoint = best
    assert results["steps"] == steps
    assert results["stopped_early"] == (steps < 40)
    assert not results["interrupted"]
    path = f"checkpoints/step-{checkpoint:08d}" if checkpoint else None
    assert results["best"] == {"metric": metric, "value": value, "step": step, "checkpoint": path}
    assert run_json(tmp_path)["best"] == results["best"]
    assert kept(tmp_path) == sorted({steps, checkpoint or steps})
    plain, _ = train(1, perceptron(), changed(steps=steps), data=DATA)
    assert results["weights_sha256"] == plain["weights_sha256"]


@pytest.mark.usefixtures("figures")
def test_a_run_that_stops_early_says_so(tmp_path, capsys):
    train(1, perceptron(), changed(steps=40, stop_after=2), data=DATA, folder=tmp_path)
    said = capsys.readouterr().err
    assert "stopped after step 16: no better test_accuracy than 0.6000 of step 8 in 2 evaluations\n" in said


class KilledError(BaseException):
    pass


@pytest.mark.usefixtures("figures")
@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("keep_best", ["off", "test_loss"])
@pytest.mark.parametrize("stopped_at", [9, 12, 15, 16, 19, 20])
def test_the_count_survives_wherever_the_run_was_interrupted(tmp_path, ranks, keep_best, stopped_at):
    recipe = changed(
        steps=40, keep_checkpoints=1, checkpoint_steps=1, keep_best=keep_best,
        stop_after=2 if keep_best == "test_loss" else 3,
    )  # fmt: skip
    graph = perceptron()
    whole, _ = train(1, graph, recipe, data=DATA, folder=tmp_path / "whole")
    folder = tmp_path / "part"
    train(2, graph, changed(recipe, steps=stopped_at), data=DATA, folder=folder)
    saved = find_checkpoint(folder)
    restore = read_state(saved), read_tensors(saved, graph)
    results, _ = train(ranks, graph, recipe, data=DATA, folder=folder, restore=restore)
    for name in ("steps", "stopped_early", "best", "weights_sha256"):
        assert results[name] == whole[name], name
    assert kept(folder) == kept(tmp_path / "whole")


@pytest.mark.usefixtures("figures")
@pytest.mark.parametrize("killed_at", [8, 12, 20])
def test_an_evaluation_that_a_killed_run_has_missed_counts_when_it_goes_on(tmp_path, monkeypatch, killed_at):
    recipe, graph = changed(steps=40, stop_after=3, checkpoint_every=1), perceptron()
    whole, _ = train(1, graph, recipe, data=DATA)
    with monkeypatch.context() as patch:
        real = Trainer._measure

        def measure(self):
            if self.progress.step == killed_at:
                self.saver.drain()
                raise KilledError
            return real(self)

        patch.setattr(Trainer, "_measure", measure)
        with pytest.raises(KilledError):
            train(1, graph, recipe, data=DATA, folder=tmp_path)
    saved = find_checkpoint(tmp_path)
    assert read_state(saved).step == killed_at
    restore = read_state(saved), read_tensors(saved, graph)
    results, _ = train(2, graph, recipe, data=DATA, folder=tmp_path, restore=restore)
    assert (results["steps"], results["best"]["step"]) == (whole["steps"], whole["best"]["step"])
    assert results["stopped_early"]


@pytest.mark.usefixtures("figures")
def test_a_run_that_has_stopped_early_goes_on_where_it_is_told_to(tmp_path):
    graph, recipe = perceptron(), changed(steps=40, stop_after=2, checkpoint_every=1)
    train(1, graph, recipe, data=DATA, folder=tmp_path)
    for stop_after, steps in ((2, 16), (4, 24), (0, 40)):
        saved = find_checkpoint(tmp_path)
        restore = read_state(saved), read_tensors(saved, graph)
        results, _ = train(
            2, graph, changed(recipe, stop_after=stop_after), data=DATA, folder=tmp_path, restore=restore
        )
        assert results["steps"] == steps
        assert results["stopped_early"] == (steps < 40)


@pytest.mark.usefixtures("figures")
def test_another_metric_begins_anew(tmp_path):
    graph, fields = perceptron(), {"checkpoint_every": 1, "keep_checkpoints": 1}
    train(1, graph, changed(steps=12, keep_best="test_loss", **fields), data=DATA, folder=tmp_path)
    assert best_of(tmp_path).metric == "test_loss"
    saved = find_checkpoint(tmp_path)
    restore = read_state(saved), read_tensors(saved, graph)
    results, _ = train(
        1, graph, changed(steps=20, keep_best=True, **fields), data=DATA, folder=tmp_path, restore=restore
    )
    assert (results["best"]["metric"], results["best"]["step"]) == ("test_accuracy", 12)
    assert kept(tmp_path) == [12, 20]


@pytest.mark.usefixtures("figures")
def test_the_best_one_that_an_earlier_version_has_noted_is_known(tmp_path):
    graph, fields = perceptron(), {"checkpoint_every": 1, "keep_checkpoints": 1, "keep_best": True}
    train(1, graph, changed(steps=12, **fields), data=DATA, folder=tmp_path)
    (tmp_path / "checkpoints/best.json").write_text('{"step": 8, "test_accuracy": 0.6}')
    saved = find_checkpoint(tmp_path)
    state = json.loads((saved / "state.json").read_text())
    for name in ("best", "history", "init"):
        del state[name]
    (saved / "state.json").write_text(json.dumps(state))
    restore = read_state(saved), read_tensors(saved, graph)
    assert restore[0].best is None
    train(1, graph, changed(steps=20, **fields), data=DATA, folder=tmp_path, restore=restore)
    assert kept(tmp_path) == [8, 20]


def test_a_run_that_compares_nothing_says_nothing_of_the_best(tmp_path):
    results, _ = train(1, perceptron(), changed(steps=4), data=DATA, folder=tmp_path)
    assert results["best"] is None
    assert not results["stopped_early"]


@pytest.mark.usefixtures("figures")
def test_a_run_that_goes_on_from_an_older_checkpoint_has_its_best_one(tmp_path):
    graph, recipe = perceptron(), changed(
        steps=20, keep_best="test_loss", checkpoint_every=1, keep_checkpoints=9
    )  # fmt: skip
    train(1, graph, recipe, data=DATA, folder=tmp_path)
    assert best_of(tmp_path).step == 20
    rewind(tmp_path, 12)
    assert best_of(tmp_path) is None
    saved = find_checkpoint(tmp_path)
    restore = read_state(saved), read_tensors(saved, graph)
    train(1, graph, changed(recipe, steps=16), data=DATA, folder=tmp_path, restore=restore)
    assert best_of(tmp_path).step == 12
