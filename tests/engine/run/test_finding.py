"""The checkpoint that a path leads to."""

import shutil

import pytest

from engine.config.errors import UserError
from engine.run.best import Best
from engine.run.checkpoint import save_checkpoint
from engine.run.finding import best_checkpoint, better_than_newest, find_checkpoint, read_found
from engine.run.kept_checkpoints import note_best
from engine.run.state import State


def test_a_name_that_the_file_system_refuses_is_named(tmp_path):
    with pytest.raises(UserError, match=r"^resume: .*: File name too long"):
        find_checkpoint(tmp_path / ("x" * 300))


def test_the_best_checkpoint_is_the_noted_one(tmp_path):
    assert best_checkpoint(tmp_path) is None
    first, _ = (save_checkpoint(tmp_path, State(step, "", ""), {}, {}) for step in (4, 5))
    note_best(tmp_path, Best("test_accuracy", 0.5, 4, evaluated=4))
    assert best_checkpoint(tmp_path) == first


def test_a_checkpoint_that_a_run_removes_before_it_is_read_gives_way_to_the_newer_one(tmp_path):
    for step in (1, 2):
        (tmp_path / f"checkpoints/step-0000000{step}").mkdir(parents=True)
        (tmp_path / f"checkpoints/step-0000000{step}/state.json").write_text(str(step))

    def pruned(found):
        if found.name.endswith("2"):
            shutil.rmtree(found)
            (tmp_path / "checkpoints/step-00000003").mkdir()
            (tmp_path / "checkpoints/step-00000003/state.json").write_text("3")
        return (found / "state.json").read_text()

    assert read_found(tmp_path, pruned, what="checkpoint") == "3"


def test_a_checkpoint_that_stays_and_cannot_be_read_is_read_once(tmp_path):
    (tmp_path / "checkpoints/step-00000001").mkdir(parents=True)
    (tmp_path / "checkpoints/step-00000001/state.json").touch()
    looks = []

    def damaged(found):
        looks.append(found)
        raise UserError("damaged")

    with pytest.raises(UserError, match=r"^damaged$"):
        read_found(tmp_path, damaged, what="checkpoint")
    assert len(looks) == 1


def test_a_run_without_a_checkpoint_so_far_is_no_other_folder(tmp_path):
    for name, said in (
        ("none", ": there is no such folder"),
        ("", "; give a run's folder or one of its checkpoints"),
    ):
        with pytest.raises(UserError, match=rf"holds no checkpoint{said}$"):
            find_checkpoint(tmp_path / name)
    (tmp_path / "recipe.toml").touch()
    with pytest.raises(UserError, match=r"holds no checkpoint: the run there has saved none so far$"):
        find_checkpoint(tmp_path)


def test_the_best_checkpoint_is_read_by_saying_so_and_named_where_it_is_not(tmp_path):
    first, second = (save_checkpoint(tmp_path, State(step, "", ""), {}, {}) for step in (4, 5))
    for path, which in ((tmp_path, "notes no best checkpoint"), (second, "is a checkpoint")):
        with pytest.raises(UserError, match=rf"^best: {path} {which}; must be a run that was trained "):
            read_found(path, str, what="checkpoint", best=True)
    assert better_than_newest(tmp_path) == ""
    note_best(tmp_path, Best("test_accuracy", 0.5, 5, evaluated=5))
    assert read_found(tmp_path, str, what="checkpoint", best=True) == str(second)
    assert better_than_newest(tmp_path) == ""
    note_best(tmp_path, Best("test_accuracy", 0.75, 4, evaluated=5))
    assert read_found(tmp_path, str, what="checkpoint", best=True) == str(first)
    assert read_found(tmp_path, str, what="checkpoint") == str(second)
    assert better_than_newest(tmp_path) == (
        f"note: of {tmp_path} the newest checkpoint is taken, of step 5; the best one is {first} "
        "(test_accuracy 0.7500)"
    )
    assert better_than_newest(first) == better_than_newest(tmp_path / "no") == ""
