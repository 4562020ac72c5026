"""Trackers by their names."""

import os
import sys

import pytest

from engine.config.errors import UserError
from engine.config.recipe import TRACKERS, Recipe
from engine.models import MODELS
from engine.tracking import trackers
from tests.engine.tracking.written import about

PACKAGES = {"tensorboard": "tensorboardX", "mlflow": "mlflow", "wandb": "wandb"}


@pytest.mark.parametrize("name", TRACKERS)
def test_a_library_that_is_missing_is_named_with_its_extra(monkeypatch, name):
    monkeypatch.setitem(sys.modules, PACKAGES[name], None)
    with pytest.raises(
        UserError,
        match=rf"^track: .* is not installed; install it with pip install 'lockstep-sgd\[{name}\]'$",
    ):
        trackers.load([f"{name}:place"])


@pytest.mark.parametrize(
    ("track", "message"),
    [
        (("tensorbord",), r'^track: got "tensorbord" \(did you mean "tensorboard"\?\); must be one of'),
        (("mlflow:a", "mlflow:b"), r"^track: got mlflow more than once"),
        (("",), r'^track: got ""; must be one of tensorboard, mlflow, wandb'),
    ],
)
def test_a_tracker_that_cannot_be_is_refused(track, message):
    with pytest.raises(UserError, match=message):
        Recipe(epochs=1, track=track).check(MODELS)


def test_places_may_have_colons():
    Recipe(epochs=1, track=("mlflow:http://host:5000", "tensorboard", "wandb:cats")).check(MODELS)


def test_a_rank_that_goes_on_with_a_run_makes_the_settings_of_the_library_too(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE", raising=False)
    trackers.make("mlflow", about(tmp_path / "run"))
    assert os.environ["MLFLOW_ALLOW_FILE_STORE"] == "true"
