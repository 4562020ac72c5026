"""Runs that are tracked: the same bits, every line once, and no tracker in a run's way."""

import json
import sys
from importlib.util import find_spec

import lockstep
import pytest

from engine.config.recipe import Recipe
from engine.run.tracked import parameters
from engine.tracking import trackers
from tests.engine.tracking.written import scalars, texts
from tests.mpi.launch import mpirun

SHORT = {"threads": 1, "evaluate_every": 0}
TRACKED = {**SHORT, "track": ["tensorboard"]}
needs_tensorboard = pytest.mark.skipif(not find_spec("tensorboardX"), reason="needs the extra tensorboard")


class StopAt(lockstep.Callback):
    def __init__(self, step):
        self.step = step

    def on_step(self, run, record):
        if record["step"] == self.step:
            run.stop()


def lines_of(folder):
    """Return (step, value) of each number in a run's metrics, as trackers name it."""
    found = {}
    for text in (folder / "metrics.jsonl").read_text().splitlines():
        record = json.loads(text)
        for name, value in record.items():
            if name not in ("kind", "step") and value is not None:
                found.setdefault(f"{record['kind']}/{name}", []).append((record["step"], value))
    return found


@needs_tensorboard
def test_a_tracked_run_that_was_interrupted_has_every_line_once_and_the_bits_of_one_untracked(tmp_path):
    plain = lockstep.train("digits", steps=6, out=tmp_path / "plain", **SHORT)
    part = lockstep.train(
        "digits", steps=6, out=tmp_path / "run", checkpoint_steps=2, callbacks=[StopAt(3)], **TRACKED
    )
    assert part.results["interrupted"]
    assert texts(part.folder / "tensorboard")["ended"] == "interrupted"
    older = part.folder / "checkpoints/step-00000002"
    whole = lockstep.train(resume=older)
    assert whole.results["weights_sha256"] == plain.results["weights_sha256"]
    told = scalars(whole.folder / "tensorboard")
    wanted = lines_of(whole.folder)
    assert set(told) == set(wanted)
    for name, values in wanted.items():
        assert [step for step, _ in told[name]] == [step for step, _ in values]
        assert [value for _, value in told[name]] == pytest.approx([value for _, value in values], rel=1e-6)
    said = texts(whole.folder / "tensorboard")
    assert said["ended"] == "done"
    assert said["weights_sha256"] == plain.results["weights_sha256"]
    assert json.loads(said["results"])["steps"] == 6


@needs_tensorboard
def test_only_rank_0_writes(tmp_path):
    out = tmp_path / "run"
    done = mpirun(2, "-m", "engine.train", "digits", "--steps", "2", "--threads", "1", "--out", str(out),
                  "--track", "tensorboard", timeout=120)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(list((out / "tensorboard").iterdir())) == 1
    assert [step for step, _ in scalars(out / "tensorboard")["step/loss"]] == [1, 2]


@needs_tensorboard
def test_a_run_that_ends_with_an_error_is_marked(tmp_path):
    class Fails(lockstep.Callback):
        def on_step(self, run, record):
            raise KeyError("a bug of the user's")

    with pytest.raises(KeyError, match="a bug"):
        lockstep.train("digits", steps=2, callbacks=[Fails()], out=tmp_path / "run", **TRACKED)
    assert texts(tmp_path / "run/tensorboard")["ended"] == "failed"


def test_a_missing_library_is_told_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(lockstep.UserError, match=r"^track: tensorboardX is not installed; .*\[tensorboard\]"):
        lockstep.train("digits", steps=2, out=tmp_path / "run", **TRACKED)
    assert not (tmp_path / "run").exists()


def test_a_tracker_that_fails_is_one_warning_and_the_run_is_done(tmp_path, monkeypatch):
    class Broken:
        def begin(self):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(trackers, "load", lambda _: None)
    monkeypatch.setattr(trackers, "make", lambda *_: Broken())
    run = lockstep.train("digits", steps=3, out=tmp_path / "run", **TRACKED)
    assert not run.results["interrupted"]
    (warning,) = [each for each in run.results["warnings"] if each.startswith("track:")]
    assert "tensorboard: [Errno 28] No space left on device; the run goes on" in warning


def test_callbacks_see_the_beginning_and_the_end(tmp_path):
    class Seen(lockstep.Callback):
        def __init__(self):
            self.said = []

        def on_begin(self, run):
            self.said.append((run.beginning.step, run.beginning.folder, run.beginning.recipe.batch))

        def on_end(self, run, results):
            self.said.append(results["steps"])

        def close(self):
            self.said.append("closed")

    seen = Seen()
    run = lockstep.train("digits", steps=3, out=tmp_path / "run", callbacks=[seen, StopAt(1)], **SHORT)
    lockstep.train(resume=run.folder, callbacks=[seen])
    begun = [(step, run.folder, 64) for step in (0, 2)]
    assert seen.said == [begun[0], 2, "closed", begun[1], 3, "closed"]


def test_the_recipe_as_parameters_is_flat_and_says_all_but_places():
    given = dict(parameters(Recipe(epochs=1, freeze=("a", "b"), track=("wandb",), out="x", trace="t")))
    assert (given["epochs"], given["schedule.rate"], given["freeze"]) == (1, 0.01, '["a", "b"]')
    assert not {"out", "trace", "track", "schedule"} & set(given)
    assert all(isinstance(value, str | int | float) for value in given.values())


@needs_tensorboard
def test_a_run_that_is_tracked_when_it_goes_on_has_its_first_steps_too(tmp_path):
    part = lockstep.train("digits", steps=5, out=tmp_path / "run", callbacks=[StopAt(1)], **SHORT)
    assert part.results["steps"] == 2
    lockstep.train(resume=part.folder, track=["tensorboard"])
    told, wanted = scalars(part.folder / "tensorboard"), lines_of(part.folder)
    assert [step for step, _ in told["step/loss"]] == [1, 2, 3, 4, 5]
    assert {name: len(values) for name, values in told.items()} == {
        name: len(values) for name, values in wanted.items()
    }
