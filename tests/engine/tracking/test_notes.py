"""Notes of trackers in a run's folder."""

import pytest

from engine.tracking.notes import note, noted


def test_what_is_noted_is_found_by_its_tracker_in_its_place_only(tmp_path):
    note(tmp_path, "mlflow", "store", {"run_id": "a"})
    note(tmp_path, "wandb", "", {"id": "b"})
    assert noted(tmp_path, "mlflow", "store") == {"format": 1, "place": "store", "run_id": "a"}
    assert noted(tmp_path, "wandb", "")["id"] == "b"
    assert noted(tmp_path, "mlflow", "another") == noted(tmp_path, "tensorboard", "") == {}
    note(tmp_path, "mlflow", "another", {})
    assert noted(tmp_path, "mlflow", "store") == {}


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": 2, "place": ""}', '{"format": 1}', "3"])
def test_notes_that_nobody_here_wrote_are_none(tmp_path, text):
    (tmp_path / "tracking_wandb.json").write_text(text)
    assert noted(tmp_path, "wandb", "") == {}
