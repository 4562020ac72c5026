"""The folder of a run: never that of another, and rewound to where a run goes on."""

import json

import numpy as np
import pytest

from engine.config.errors import UserError
from engine.config.files import writing
from engine.run import run_folder
from engine.run.checkpoint import save_checkpoint
from engine.run.run_folder import new_folder, rewind
from engine.run.state import State


def test_default_folders_are_new_ones_also_within_a_second(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_folder.time, "strftime", lambda _: "now")
    made = [str(new_folder("", "digits", "").path) for _ in range(3)]
    assert made == ["runs/digits-now", "runs/digits-now-2", "runs/digits-now-3"]
    assert all((tmp_path / each).is_dir() for each in made)


@pytest.mark.parametrize("held", ["metrics.jsonl", "run.json", "checkpoints"])
def test_a_folder_that_holds_a_run_is_refused(tmp_path, held):
    (tmp_path / held).mkdir()
    with pytest.raises(
        UserError, match=rf"^out: .* already holds a run's {held}: give another --out, or --re"
    ):
        new_folder(str(tmp_path), "digits", "")


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_no_checkpoint_can_be_saved_in_is_refused_at_once(tmp_path, kind):
    place = tmp_path / "checkpoints"
    place.touch() if kind == "file" else place.symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"^out: .* already holds a run's checkpoints: give another --out"):
        new_folder(str(tmp_path), "digits", "")


def test_a_folder_with_other_things_is_taken(tmp_path):
    (tmp_path / "notes.txt").touch()
    assert new_folder(str(tmp_path), "digits", "").path == tmp_path


def test_a_recipe_of_the_users_is_not_written_over(tmp_path):
    (tmp_path / "recipe.toml").write_text("steps = 3\n")
    with pytest.raises(UserError, match=r"^out: .* already holds a recipe\.toml, which is not written over"):
        new_folder(str(tmp_path), "digits", "steps = 2\n")
    assert (tmp_path / "recipe.toml").read_text() == "steps = 3\n"
    assert new_folder(str(tmp_path), "digits", "steps = 3\n").path == tmp_path


def test_what_a_run_leaves_that_fails_at_once_does_not_refuse_the_next(tmp_path):
    (tmp_path / "metrics.jsonl").touch()
    new_folder(str(tmp_path), "digits", "").lock.release()


def test_a_folder_that_is_not_used_after_all_is_left_as_it_was(tmp_path):
    new_folder(str(tmp_path / "new"), "digits", "").withdraw()
    assert not (tmp_path / "new").exists()
    (tmp_path / "empty").mkdir()
    new_folder(str(tmp_path / "empty"), "digits", "").withdraw()
    assert (tmp_path / "empty").is_dir()


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for out in ("file", "file/inside"):
        with pytest.raises(UserError, match=r"^out: .*file.*: cannot be written: "):
            new_folder(str(tmp_path / out), "digits", "")


def test_rewinding_forgets_what_came_after_the_step(tmp_path):
    weights = {"a.weight": np.ones(3, np.float32)}
    for step in (2, 4):
        save_checkpoint(tmp_path, State(step, "", "samples"), weights, weights)
    lines = [json.dumps({"kind": "step", "step": step}) for step in (1, 2, 3)]
    lines.insert(2, json.dumps({"kind": "epoch", "step": 2, "epoch": 1}))
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines) + '\n{"kind": "st')
    (tmp_path / "run.json").write_text("{}")
    rewind(tmp_path, 2)
    kept = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [(record["kind"], record["step"]) for record in kept] == [("step", 1), ("step", 2), ("epoch", 2)]
    assert not (tmp_path / "run.json").exists()
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000002"]


@pytest.mark.parametrize("noise", [b"\xff\xfe\n", b"[1]\n", b"3\n", b'{"step": null}\n', b"\n"])
def test_lines_that_are_no_records_are_dropped(tmp_path, noise):
    (tmp_path / "metrics.jsonl").write_bytes(noise + b'{"step": 1}\n')
    rewind(tmp_path, 1)
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1}\n'


def test_what_fails_while_writing_is_the_users_to_mend(tmp_path):
    with (
        pytest.raises(UserError, match=r"^out: .*: cannot be written: No space left on device$"),
        writing(tmp_path, "out"),
    ):
        raise OSError(28, "No space left on device")
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(UserError, match=r"^out: .*metrics\.jsonl: cannot be written: Is a directory$"):
        rewind(tmp_path, 2)
