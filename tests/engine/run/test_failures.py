"""What fails in the middle of a run: all ranks save the steps that are done, then it is said once."""

import json
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import pytest

from comm.threads import single_rank
from engine.config.errors import UserError
from engine.config.recipe import ScheduleFields
from engine.data.dataset import DataSource
from engine.run import saver, trainer
from engine.run.callbacks import Callback
from engine.run.checkpoint import read_state, read_tensors
from engine.run.failures import Failures, RunEndedError, in_words
from engine.run.finding import find_checkpoint
from engine.run.folder_lock import lock_folder
from engine.run.kept_checkpoints import checkpoints_of
from engine.run.log import RunLog
from engine.run.session import run_session
from engine.run.trainer import Trainer
from tests.engine.cluster import Samples, changed, train
from tests.engine.graphs import chain, perceptron, wide

ERRORS = {
    "image": UserError("7.png: cannot be decoded"),
    "disk": OSError(5, "Input/output error", "7.png"),
    "memory": MemoryError(),
    "program": KeyError("seven"),
}
WORDS = {
    "image": "7.png: cannot be decoded",
    "disk": "7.png: Input/output error",
    "memory": "memory: none is left; lower --batch, or use more ranks",
}


@dataclass(frozen=True, eq=False)
class Failing(Samples):
    """Cannot read sample 7 from the second time on."""

    errors: list[Exception] = field(default_factory=list)
    reads: list[int] = field(default_factory=list)

    def read(self, index, x):
        if index == 7:
            self.reads.append(index)
            if len(self.reads) > 1:
                raise self.errors[0]
        return super().read(index, x)


class Unreadable(Samples):
    """Has no sample that can be read."""

    def read(self, index, x):
        raise ERRORS["image"]


def failing(error, count=64, graph=None):
    network = graph or perceptron()
    made = Failing.draw(network.input_shape, network.output_shape[0], count)
    made.errors.append(error)
    return made


def step_without_sample_7(recipe, count=64):
    """Return the last step before the one of the second epoch that needs it."""
    sampler = trainer.Sampler(count, recipe.batch, recipe.seed)
    steps = (step for step, share in enumerate(sampler.training()) if 7 in share.samples)
    next(steps)
    return next(steps)


def resumed(folder, recipe):
    graph, saved = perceptron(), find_checkpoint(folder)
    return train(1, graph, recipe, restore=(read_state(saved), read_tensors(saved, graph)))[0]


@pytest.mark.parametrize(("accumulate", "overlap"), [(1, True), (1, False), (2, True), (2, False)])
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_a_sample_that_cannot_be_read_costs_no_finished_step_on_any_number_of_ranks(
    tmp_path, ranks, accumulate, overlap
):
    recipe = changed(steps=20, overlap=overlap, accumulate=accumulate)
    last = step_without_sample_7(recipe)
    with pytest.raises(RunEndedError) as ended:
        train(ranks, perceptron(), recipe, data=DataSource(failing(ERRORS["image"]), None), folder=tmp_path)
    assert str(ended.value) == f"7.png: cannot be decoded; after step {last}: what was done is saved"
    assert find_checkpoint(tmp_path).name == f"step-{last:08d}"
    whole, _ = train(1, perceptron(), recipe)
    assert resumed(tmp_path, recipe)["weights_sha256"] == whole["weights_sha256"]


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_all_ranks_end_alike_where_several_cannot_read_their_first_samples(tmp_path, ranks, accumulate):
    recipe, data = changed(steps=20, accumulate=accumulate), Unreadable.draw((12,), 5, 64)
    with pytest.raises(RunEndedError) as ended:
        train(ranks, perceptron(), recipe, data=DataSource(data, None), folder=tmp_path)
    assert str(ended.value) == "7.png: cannot be decoded; after step 0: there was nothing to save"
    assert not checkpoints_of(tmp_path)


@pytest.mark.parametrize("kind", WORDS)
def test_whatever_a_user_can_mend_is_one_line(tmp_path, kind):
    with pytest.raises(RunEndedError, match=f"^{WORDS[kind]}; after step "):
        train(
            2, perceptron(), changed(steps=20), data=DataSource(failing(ERRORS[kind]), None), folder=tmp_path
        )
    assert find_checkpoint(tmp_path)


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_mistake_in_a_program_is_raised_as_it_is_but_after_saving(tmp_path, ranks):
    data = DataSource(failing(ERRORS["program"]), None)
    with pytest.raises((KeyError, RunEndedError), match="seven"):
        train(ranks, perceptron(), changed(steps=20), data=data, folder=tmp_path)
    assert find_checkpoint(tmp_path)


@pytest.mark.parametrize(("plan", "accumulate"), [("data", 1), ("fc1=2", 1), ("fc1=2", 4)])
@pytest.mark.parametrize(("steps", "saved"), [(20, 9), (8, 8)])
def test_an_evaluation_that_fails_on_a_rank_ends_all_after_the_next_step(
    tmp_path, plan, accumulate, steps, saved
):
    graph, recipe = wide(), changed(steps=steps, plan=plan, accumulate=accumulate)
    data = DataSource(Samples.draw((12,), 70, 64), failing(ERRORS["image"], 24, graph))
    with pytest.raises(
        RunEndedError, match=f"^7.png: cannot be decoded; after step {saved}: what was done is"
    ):
        train(2, graph, recipe, data=data, folder=tmp_path)
    assert find_checkpoint(tmp_path).name == f"step-0000000{saved}"
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [each["step"] for each in records if each["kind"] == "epoch"] == [4]


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_disk_that_is_full_at_a_metrics_line_does_not_keep_a_run_from_saving(tmp_path, monkeypatch, ranks):
    written = RunLog.step

    def full(self, record):
        if record["step"] == 3 and self._folder is not None:
            raise UserError("out: metrics.jsonl: cannot be written: No space left on device")
        written(self, record)

    monkeypatch.setattr(RunLog, "step", full)
    with pytest.raises(RunEndedError, match=f"^out: .* No space left on device; after step {2 + ranks}: "):
        train(ranks, perceptron(), changed(steps=20), folder=tmp_path)
    assert find_checkpoint(tmp_path).name == f"step-0000000{2 + ranks}"


def refusing(monkeypatch, refused):
    """Let the disk refuse checkpoints of steps; return the steps that were tried."""
    saved, tries = saver.save_checkpoint, []

    def save(run, state, *rest, **named):
        tries.append(state.step)
        if refused(state.step):
            raise OSError(28, "No space left on device")
        return saved(run, state, *rest, **named)

    monkeypatch.setattr(saver, "save_checkpoint", save)
    return tries


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_full_disk_is_a_warning_and_the_next_checkpoint_is_written(tmp_path, monkeypatch, capsys, ranks):
    tries = refusing(monkeypatch, lambda step: step < 7)
    results, _ = train(ranks, perceptron(), changed(steps=10, checkpoint_steps=2), folder=tmp_path)
    assert [path.name[5:] for path in checkpoints_of(tmp_path)] == ["00000008", "00000010"]
    assert {2, 8, 10} <= set(tries)
    line = "the checkpoint of step 2 could not be written: No space left on device; the run goes on, "
    said = capsys.readouterr().err
    assert results["warnings"] == [f"{line}and it is tried again"]
    assert said.count(f"warning: {line}") == 1
    assert "the checkpoint of step 8 is written, after all\n" in said
    assert results["weights_sha256"] == train(1, perceptron(), changed(steps=10))[0]["weights_sha256"]
    assert json.loads((tmp_path / "run.json").read_text())["warnings"] == results["warnings"]


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_disk_that_is_full_until_the_end_ends_the_run_with_what_is_lost(tmp_path, monkeypatch, ranks):
    tries = refusing(monkeypatch, lambda step: step > 3)
    lost = "after step 10: it could not be saved; the newest checkpoint is that of step 2"
    with pytest.raises(RunEndedError, match=f"^out: .* No space left on device; {lost}$"):
        train(ranks, perceptron(), changed(steps=10, checkpoint_steps=2), folder=tmp_path)
    assert tries.count(10) >= 2
    assert find_checkpoint(tmp_path).name == "step-00000002"


def test_a_folder_that_is_away_for_a_while_gets_its_checkpoints_when_it_is_back(tmp_path, monkeypatch):
    run, away, seen = tmp_path / "run", tmp_path / "away", []

    class Moving(Callback):
        def on_step(self, view, record):
            if record["step"] == 3:
                while not checkpoints_of(run):
                    pass
                run.rename(away)
            elif record["step"] == 7:
                seen.extend(checkpoints_of(run))
                away.rename(run)

    monkeypatch.setattr("tests.engine.cluster.run_session", lambda made: run_session(made, [Moving()]))
    run.mkdir()
    lock = lock_folder(run, "out")
    monkeypatch.setattr("tests.engine.cluster.Trainer", partial(Trainer, check_folder=lock.check))
    results, _ = train(1, perceptron(), changed(steps=10, checkpoint_steps=2), folder=run)
    lock.release()
    assert not seen
    assert [path.name[5:] for path in checkpoints_of(run)] == ["00000008", "00000010"]
    assert any("it was moved or removed; the run goes on" in line for line in results["warnings"])


def test_callbacks_are_told_of_checkpoints_that_are_whole_on_all_ranks_in_order(tmp_path, monkeypatch):
    told = {0: [], 1: []}

    class Seeing(Callback):
        def on_checkpoint(self, run, folder):
            if folder is not None:
                read_tensors(folder, perceptron())
            told[run.rank].append(folder and folder.name[5:])

    monkeypatch.setattr("tests.engine.cluster.run_session", lambda made: run_session(made, [Seeing()]))
    train(2, perceptron(), changed(steps=6, checkpoint_steps=2, keep_checkpoints=9), folder=tmp_path)
    assert told == {0: ["00000002", "00000004", "00000006"], 1: [None] * 3}


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("error", [SystemExit(0), KeyboardInterrupt(), GeneratorExit()])
def test_a_data_set_that_would_end_the_program_costs_no_step_and_says_so(tmp_path, ranks, error):
    data = DataSource(failing(error), None)
    ends = f"^data: sample 7: {type(error).__name__}.*must not end the program; after step .* is saved$"
    with pytest.raises(RunEndedError, match=ends):
        train(ranks, perceptron(), changed(steps=20), data=data, folder=tmp_path)
    assert find_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError("mine"), "^mine$"),
        (
            SystemExit(3),
            "^callback: SystemExit: 3; code of yours must .*; after step 3: what was",
        ),
        (KeyboardInterrupt(), "^callback: KeyboardInterrupt; .*; after step 3: what was done is saved$"),
    ],
)
def test_a_callback_that_fails_or_would_end_the_program_costs_no_step(tmp_path, monkeypatch, error, said):
    class Broken(Callback):
        def on_step(self, run, record):
            if record["step"] == 3:
                raise error

    monkeypatch.setattr("tests.engine.cluster.run_session", lambda made: run_session(made, [Broken()]))
    with pytest.raises((RuntimeError, RunEndedError), match=said):
        train(1, perceptron(), changed(steps=20), folder=tmp_path)
    assert find_checkpoint(tmp_path).name == "step-00000003"


HUGE = 3e38
"""Finite, but what a layer makes of it is not."""


@dataclass(frozen=True, eq=False)
class Poisoned(Samples):
    """Sample 7 has this value from the `good` + 1st time on, so many times."""

    value: float = np.nan
    good: int = 1
    bad: float = np.inf

    reads: list[int] = field(default_factory=list)

    def read(self, index, x):
        label = super().read(index, x)
        if index == 7:
            self.reads.append(index)
            if self.good < len(self.reads) <= self.good + self.bad:
                x[...] = self.value
        return label


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_a_loss_that_is_not_finite_ends_the_run_and_names_step_layer_and_checkpoint(tmp_path, ranks):
    recipe = changed(steps=20, checkpoint_steps=1)
    last = step_without_sample_7(recipe)
    with pytest.raises(RunEndedError) as ended:
        data = DataSource(replace(Poisoned.draw((12,), 5, 64), value=HUGE), None)
        train(ranks, perceptron(), recipe, data=data, folder=tmp_path)
    assert str(ended.value) == (
        f"step {last + 1}: the loss is nan; the output of fc1 is not finite; the checkpoint of step {last} "
        "is whole; a lower --lr, or a warm-up, may help"
    )
    saved = find_checkpoint(tmp_path)
    assert saved.name == f"step-{last:08d}"
    assert all(np.isfinite(each).all() for each in read_tensors(saved, perceptron()).values())
    assert resumed(tmp_path, recipe)["weights_sha256"] == train(1, perceptron(), recipe)[0]["weights_sha256"]


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_sample_that_is_not_finite_is_named_and_costs_no_step(tmp_path, ranks):
    recipe = changed(steps=20)
    last = step_without_sample_7(recipe)
    with pytest.raises(RunEndedError) as ended:
        train(
            ranks, perceptron(), recipe, data=DataSource(Poisoned.draw((12,), 5, 64), None), folder=tmp_path
        )
    assert str(ended.value) == (
        f"samples: sample 7 has values that are not finite; after step {last}: what was done is saved"
    )
    assert find_checkpoint(tmp_path).name == f"step-{last:08d}"
    assert resumed(tmp_path, recipe)["weights_sha256"] == train(1, perceptron(), recipe)[0]["weights_sha256"]


def test_a_loss_that_is_not_finite_at_once_is_no_matter_of_the_rate(tmp_path):
    data = DataSource(replace(Poisoned.draw((12,), 5, 64), value=HUGE, good=0), None)
    with pytest.raises(
        RunEndedError, match=r"^step 1: the loss is nan; .*: samples, or initial weights, are"
    ):
        train(1, perceptron(), changed(steps=20, batch=64), data=data, folder=tmp_path)


@pytest.mark.parametrize("rate", [1e20, 1e29])
@pytest.mark.parametrize("fields", [{"checkpoint_steps": 1}, {}])
def test_a_rate_that_is_far_too_high_never_replaces_a_finite_checkpoint(tmp_path, rate, fields):
    recipe = changed(steps=30, schedule=ScheduleFields(rate=rate), **fields)
    with pytest.raises(
        RunEndedError, match=r"^step \d+: .* not finite; .*; a lower --lr, or a warm-up, may help$"
    ):
        train(2, chain(), recipe, folder=tmp_path)
    for saved in tmp_path.glob("checkpoints/step-*"):
        assert all(np.isfinite(each).all() for each in read_tensors(saved, chain()).values())


def test_the_words_of_errors():
    assert in_words(OSError("gone")) == "gone"
    assert in_words(KeyError("x")) is None
    failures = Failures(single_rank())
    with pytest.raises(KeyboardInterrupt):
        failures.keep(KeyboardInterrupt())
    assert failures.agreed() is None
