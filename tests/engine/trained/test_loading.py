"""Checkpoints as networks in use: whole, damaged, moved, of earlier versions."""

import json
import shutil
from pathlib import Path

import lockstep
import numpy as np
import pytest

from engine.data.preprocessing import Preprocessing
from engine.run.best import Best
from engine.run.finding import find_checkpoint
from engine.run.kept_checkpoints import note_best
from engine.trained import loading
from engine.trained.loading import load_model


def copied(run, folder) -> Path:
    return Path(shutil.copytree(run.folder, folder / "copy")) / "checkpoints" / run.checkpoint.name


def make_older(checkpoint: Path) -> None:
    """Take out of a checkpoint what earlier versions did not write."""
    path = checkpoint / "state.json"
    state = json.loads(path.read_text())
    added = (
        "preprocessing",
        "model",
        "tensors",
        "recipe_sha256",
        "weights_sha256",
        "model_code",
        "class_names",
    )
    path.write_text(json.dumps({name: value for name, value in state.items() if name not in added}))


def test_the_velocities_are_not_needed(digits_run, tmp_path):
    checkpoint = copied(digits_run, tmp_path)
    (checkpoint / "optimizer.safetensors").unlink()
    x = np.ones((1, 1, 8, 8), np.float32)
    np.testing.assert_array_equal(
        lockstep.load(checkpoint, threads=1)(x), lockstep.load(digits_run.checkpoint, threads=1)(x)
    )


def test_the_best_checkpoint_is_the_noted_one_else_the_newest(digits_run, photos_run):
    noted = json.loads((digits_run.folder / "checkpoints/best.json").read_text())["step"]
    assert digits_run.best == digits_run.folder / f"checkpoints/step-{noted:08d}"
    assert photos_run.best == photos_run.checkpoint
    assert photos_run.best.name == "step-00000030"


def with_another_best(run, folder):
    """Return a copy of a run whose newest checkpoint is not its best, and that one."""
    newest = copied(run, folder)
    best = newest.with_name("step-00000044")
    note_best(newest.parents[1], Best("test_accuracy", 0.875, 44, evaluated=66))
    return newest.parents[1], best


def test_the_best_checkpoint_of_a_run_is_loaded_by_saying_so_and_named_if_not(digits_run, tmp_path, capsys):
    run, best = with_another_best(digits_run, tmp_path)
    assert lockstep.load(run, best=True).step == 44
    assert capsys.readouterr().err == ""
    assert lockstep.load(run).step == 66
    assert capsys.readouterr().err == (
        f"note: of {run} the newest checkpoint is taken, of step 66; the best one is {best} "
        "(test_accuracy 0.8750)\n"
    )
    assert lockstep.load(best).step == 44
    assert capsys.readouterr().err == ""


def test_a_damaged_file_is_named_in_one_line_with_the_whole_checkpoint_before_it(digits_run, tmp_path):
    checkpoint = copied(digits_run, tmp_path)
    path = checkpoint / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(lockstep.UserError, match=r"model.safetensors: .*the one before it is whole: .*44$"):
        lockstep.load(checkpoint)
    path.unlink()
    with pytest.raises(lockstep.UserError, match=r"model.safetensors: cannot be read"):
        lockstep.load(checkpoint)
    (checkpoint / "state.json").write_text("{")
    with pytest.raises(lockstep.UserError, match=r"state.json: cannot be read"):
        lockstep.load(checkpoint)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("preprocessing", {"sample_shape": [1, 9, 8]}, r"samples are \[1, 9, 8\], .* in 1 channel;"),
        ("normalisation", {"scale": [1.0, 1.0], "shift": [0.0, 0.0]}, r"\[1, 8, 8\], .* in 2 channels;"),
        ("preprocessing", {"white": float("inf")}, "cannot be read as a checkpoint's state: preprocessing:"),
        ("preprocessing", {"sample_shape": []}, "cannot be read as a checkpoint's state: preprocessing:"),
    ],
)
def test_samples_that_the_network_does_not_read_are_refused(digits_run, tmp_path, field, value, said):
    checkpoint = copied(digits_run, tmp_path)
    state = json.loads((checkpoint / "state.json").read_text())
    state[field] |= value
    (checkpoint / "state.json").write_text(json.dumps(state))
    with pytest.raises(lockstep.UserError, match=rf"state.json: .*{said}"):
        lockstep.load(checkpoint)


def test_another_model_is_refused_by_its_first_tensor(digits_run, tmp_path):
    checkpoint = copied(digits_run, tmp_path)
    state = json.loads((checkpoint / "state.json").read_text())
    state["recipe"] = state["recipe"].replace('model = "digits"', 'model = "mnist"')
    (checkpoint / "state.json").write_text(json.dumps(state))
    with pytest.raises(lockstep.UserError, match=r"model.safetensors: holds .*; the model wants float32"):
        lockstep.load(checkpoint)


def test_a_checkpoint_of_an_earlier_version_is_used_by_index(digits_run, tmp_path):
    checkpoint = copied(digits_run, tmp_path)
    make_older(checkpoint)
    model = lockstep.load(checkpoint, threads=1)
    assert model.class_names == ()
    assert model.output_names == tuple("0123456789")
    assert model.evaluate().loss == digits_run.results["test_loss"]
    assert model.preprocessing == lockstep.load(digits_run.checkpoint).preprocessing


def test_the_preprocessing_of_an_earlier_checkpoint_follows_from_its_normalisation(photos_run, tmp_path):
    checkpoint = copied(photos_run, tmp_path)
    make_older(checkpoint)
    assert lockstep.load(checkpoint).preprocessing == Preprocessing(
        (3, 16, 16), "RGB", "cover", "EXIF", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 255
    )
    assert lockstep.load(checkpoint).preprocessing == lockstep.load(photos_run.checkpoint).preprocessing


NETWORK = """\
from lockstep import Flatten, GraphBuilder, Linear

def net(classes=10):
    net = GraphBuilder((1, 8, 8))
    net.add("flatten", Flatten())
    net.add("fc", Linear(classes))
    return net.graph()
"""


def test_a_network_file_that_has_moved_or_changed_is_found_and_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NETWORK)
    run = lockstep.train("digits", model="net.py:net", steps=2, threads=1, out="run")
    monkeypatch.chdir("/")
    said = []
    assert load_model(tmp_path / "run", say=said.append).step == 2
    assert said == []
    (tmp_path / "net.py").rename(tmp_path / "moved.py")
    with pytest.raises(
        lockstep.UserError, match=r"model was net.py:net in .*--model FILE.py:function says where"
    ):
        load_model(tmp_path / run.folder)
    # its name is part of the hash, as several files may be one network
    load_model(tmp_path / "run", model=f"{tmp_path}/moved.py:net", say=said.append)
    (tmp_path / "net.py").write_text(NETWORK + "# another line\n")
    load_model(tmp_path / "run", say=said.append)
    assert len(said) == 2
    assert "net.py:net has changed since the checkpoint was written (hash" in said[1]


@pytest.mark.parametrize(
    "options", [{"batch": -1}, {"threads": -1}, {"batch": 1 << 20}, {"threads": 1 << 20}]
)
def test_sizes_that_make_no_sense_are_refused(digits_run, options):
    with pytest.raises(lockstep.UserError, match=r"got -?\d+; must be from"):
        lockstep.load(digits_run.checkpoint, **options)


def test_a_model_is_loaded_while_its_run_saves_and_prunes(digits_run, tmp_path, monkeypatch):
    run, read = copied(digits_run, tmp_path).parents[1], loading.read_state

    def pruned(folder):
        if folder == newest:
            newest.rename(newer)
        return read(folder)

    newest = find_checkpoint(run)
    newer = newest.with_name("step-00000099")
    state = json.loads((newest / "state.json").read_text())
    (newest / "state.json").write_text(json.dumps({**state, "step": 99}))
    monkeypatch.setattr(loading, "read_state", pruned)
    assert lockstep.load(run, threads=1).step == 99
