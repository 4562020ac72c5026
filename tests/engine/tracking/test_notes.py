"""Notes of trackers in a run's folder."""

import json

import pytest

from engine.tracking.notes import NOTES, note, noted


def test_what_is_noted_is_found_by_its_tracker_in_its_place_only(tmp_path):
    note(tmp_path, "mlflow", "store", {"run_id": "a"})
    note(tmp_path, "wandb", "", {"id": "b"})
    assert noted(tmp_path, "mlflow", "store") == {"place": "store", "run_id": "a"}
    assert noted(tmp_path, "wandb", "")["id"] == "b"
    assert noted(tmp_path, "mlflow", "another") == noted(tmp_path, "tensorboard", "") == {}
    assert json.loads((tmp_path / NOTES).read_text())["format"] == 1


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": 2, "wandb": {"place": ""}}', '{"wandb": 3}'])
def test_notes_that_nobody_here_wrote_are_none(tmp_path, text):
    (tmp_path / NOTES).write_text(text)
    assert noted(tmp_path, "wandb", "") == {}
