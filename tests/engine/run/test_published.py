"""Published hashes: which runs have one, and what their users are told."""

import json
from dataclasses import replace

import lockstep
import pytest

from engine import train
from engine.config.recipe import override, parse_recipe, read_recipe, shipped
from engine.data.readers.digits import open_digits
from engine.run.published import published_line, published_sha256, read_published, recipe_hash
from engine.run.saver import Task
from tests.golden import publish

DIGITS = read_recipe("digits")


class StopAt(lockstep.Callback):
    def __init__(self, step):
        self.step = step

    def on_step(self, run, record):
        if record["step"] == self.step:
            run.stop()


def test_a_shipped_recipe_ends_as_published_also_when_it_was_interrupted(tmp_path, capsys):
    out = tmp_path / "run"
    part = lockstep.train("digits", threads=1, out=str(out), callbacks=[StopAt(100)])
    assert part.results["interrupted"] and part.results["published_sha256"] is None
    capsys.readouterr()
    assert train.main(["--resume", str(out), "--threads", "2"]) == 0
    assert "\nas published: yes\n" in capsys.readouterr().err
    results = json.loads((out / "run.json").read_text())
    assert results["published_sha256"] == results["weights_sha256"]
    assert results["weights_sha256"] in publish.README.read_text("utf-8"), (
        "the README shows what its reader will see"
    )


def test_of_a_shorter_run_nothing_is_said(tmp_path, capsys):
    assert train.main(["--steps", "2", "--threads", "1", "--out", str(tmp_path / "run")]) == 0
    assert "published" not in "".join(capsys.readouterr())
    assert json.loads((tmp_path / "run" / "run.json").read_text())["published_sha256"] is None


def test_a_run_that_stops_early_has_no_published_hash(tmp_path):
    done = lockstep.train("digits", threads=1, out=str(tmp_path / "run"), stop_after=1)
    assert done.results["stopped_early"]
    assert done.results["published_sha256"] is None


def test_other_bits_are_told_with_the_hash_that_was_expected():
    told = published_line({"published_sha256": "a", "weights_sha256": "b"})
    assert told == "as published: no: this version's weights_sha256 for this recipe is a"
    assert published_line({"published_sha256": "a", "weights_sha256": "a"}) == "as published: yes"
    assert published_line({"published_sha256": None, "weights_sha256": "a"}) is None


def test_what_is_published_is_of_the_recipes_and_data_that_are_shipped():
    assert read_published().keys() == set(publish.RECIPES) <= set(shipped())
    for name, its in read_published().items():
        assert its.recipe == recipe_hash(read_recipe(name)), "python -m tests.golden --rewrite"
        assert len(its.weights_sha256) == 64
    assert (
        read_published()["digits"].data == open_digits().train.name + " " + open_digits().train.fingerprint()
    )


def test_only_what_decides_bits_makes_another_recipe():
    same = {
        "plan": "fc4=2",
        "threads": 3,
        "out": "x",
        "data": "images:x",
        "fuse": False,
        "checkpoint_every": 0,
    }
    assert recipe_hash(override(DIGITS, same)) == recipe_hash(DIGITS)
    assert recipe_hash(parse_recipe(DIGITS.to_toml(), "x")) == recipe_hash(DIGITS)
    others = {
        "seed": 2, "batch": 128, "leaves": 8, "epochs": 31, "conv": "direct", "freeze": ("conv1",),
        "optimizer.momentum": 0.8, "schedule.rate": 0.06, "schedule.rates": {"conv*": 2.0},
        "model_arguments.classes": 11, "augment": "crop2",
    }  # fmt: skip
    hashes = {recipe_hash(override(DIGITS, {name: value})) for name, value in others.items()}
    assert len(hashes | {recipe_hash(DIGITS)}) == len(others) + 1


@pytest.mark.parametrize("other", [{"code": "x"}, {"init": "x"}, {"history": ({"step": 1},)}])
def test_a_run_that_began_or_went_on_in_another_way_has_none(other):
    task = Task(DIGITS, open_digits())
    assert published_sha256(task) == read_published()["digits"].weights_sha256
    assert published_sha256(replace(task, **other)) is None


def test_other_samples_have_none():
    data = open_digits()
    assert data.test is not None
    assert published_sha256(Task(DIGITS, replace(data, train=data.test))) is None
