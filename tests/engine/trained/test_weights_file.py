"""A file of weights alone: read as a checkpoint, as far as it says what it is."""

import json
import shutil

import lockstep
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from engine import evaluate, export, predict, show
from engine.convert import main as convert
from engine.run.checkpoint import LOCKSTEP
from engine.trained.described import describe


@pytest.fixture
def alone(photos_run, tmp_path):
    """Return the weights of a checkpoint without the rest of it."""
    return shutil.copy(photos_run.checkpoint / "model.safetensors", tmp_path / "weights.safetensors")


def test_the_weights_of_a_checkpoint_alone_are_the_network_with_its_classes(photos_run, photos, alone):
    whole, model = lockstep.load(photos_run.checkpoint, threads=1), lockstep.load(alone, threads=1)
    assert (model.step, model.class_names) == (30, ("blue", "green", "red"))
    assert model.preprocessing == whole.preprocessing
    found = model.predict(photos / "test")
    assert found == whole.predict(photos / "test")
    assert model.evaluate(str(photos)).accuracy == whole.evaluate().accuracy
    with pytest.raises(
        lockstep.UserError, match=r"^data: a file of weights does not say what .*give --data$"
    ):
        model.evaluate()


@pytest.mark.parametrize("names", ["", "names"])
def test_what_export_has_written_is_read_if_its_tensors_have_the_networks_names(
    photos_run, photos, tmp_path, names
):
    table = tmp_path / "names.toml"
    table.write_text(
        "".join(f'{name} = "other.{name}"\n' for name in ("conv1", "conv2", "conv3", "fc4", "fc5"))
    )
    path = tmp_path / "exported.safetensors"
    whole = lockstep.load(photos_run.checkpoint, threads=1)
    whole.export(path, names=str(table) if names else "")
    if names:
        with pytest.raises(
            lockstep.UserError, match=r"exported.safetensors: holds nothing for conv1.weight; "
        ):
            lockstep.load(path)
    else:
        assert lockstep.load(path, threads=1).predict(photos / "test") == whole.predict(photos / "test")


def test_what_convert_has_written_has_no_classes_and_takes_arrays(digits_run, tmp_path):
    bare = tmp_path / "bare.safetensors"
    save_file(load_file(digits_run.checkpoint / "model.safetensors"), bare)
    with pytest.raises(
        lockstep.UserError,
        match=r"bare.safetensors: does not say which network it is of; python -m engine.convert makes one",
    ):
        lockstep.load(bare)
    out = tmp_path / "converted.safetensors"
    assert convert([str(bare), "--model", "digits", "--out", str(out)]) == 0
    model, x = lockstep.load(out, threads=1), np.ones((3, 1, 8, 8), np.float32)
    assert (model.class_names, model.output_names) == ((), tuple("0123456789"))
    np.testing.assert_array_equal(model(x), lockstep.load(digits_run.checkpoint, threads=1)(x))
    assert model.evaluate("digits").accuracy == digits_run.results["test_accuracy"]
    with pytest.raises(
        lockstep.UserError, match=r"trained on data that its file does not name, and how an image becomes"
    ):
        model.predict([tmp_path / "x.png"])


def test_the_file_in_its_checkpoint_is_the_checkpoint(photos_run):
    inside = photos_run.checkpoint / "model.safetensors"
    assert lockstep.load(inside).checkpoint == photos_run.checkpoint
    assert lockstep.load(inside).recipe.batch == 16
    assert describe(inside) == describe(photos_run.checkpoint)


def test_it_is_described_as_far_as_it_says(alone, digits_run, tmp_path):
    lines = dict(line.split("  ", 1) for line in describe(alone).lines())
    assert lines["checkpoint"].strip() == str(alone)
    assert lines["classes"].strip() == "3: blue, green, red"
    assert "trained on" not in lines
    path = tmp_path / "w.safetensors"
    save_file(load_file(digits_run.checkpoint / "model.safetensors"), path, {"model": "digits"})
    lines = [line.split(maxsplit=1) for line in describe(path).lines()]
    assert [name for name, text in lines if text == "not said"] == [
        "classes", "preprocessing", "layout", "recipe", "weights",
    ]  # fmt: skip
    assert "step" not in [name for name, _ in lines]


def rewritten(path, *, tensors=None, **fields):
    """Write a file again with some other metadata under LOCKSTEP, and other tensors."""
    found = load_file(path)
    about = lockstep_metadata(path)
    save_file(tensors(found) if tensors else found, path, {LOCKSTEP: json.dumps({**about, **fields})})


def lockstep_metadata(path):
    head = path.read_bytes()
    return json.loads(json.loads(head[8 : 8 + int.from_bytes(head[:8], "little")])["__metadata__"][LOCKSTEP])


def other_bits(tensors):
    tensors["fc5.bias"][0] += 1
    return tensors


BAD = {
    "another kind of file": (lambda path: path.rename(path.with_suffix(".pth")), r"is a file; must be a run"),
    "cut short": (lambda path: path.write_bytes(path.read_bytes()[:-9]), r"cannot be read as safetensors"),
    "empty": (lambda path: path.write_bytes(b""), r"cannot be read as safetensors"),
    "another network": (
        lambda path: rewritten(path, model={"name": "mnist", "arguments": {}}),
        r"holds float32 \[32, 3, 3, 3\] for conv1.weight; the model wants",
    ),
    "a network that is none": (
        lambda path: rewritten(path, model={"name": "vgg_z", "arguments": {}}),
        r'model: got "vgg_z".*must be one of',
    ),
    "no network": (lambda path: rewritten(path, model={}), r"not as they were written: name is missing"),
    "a list": (
        lambda path: save_file(load_file(path), path, {LOCKSTEP: "[3]"}),
        r"not as they were written: lockstep is \[3\]",
    ),
    "no JSON": (
        lambda path: save_file(load_file(path), path, {"model": "digits", "step": "["}),
        r"not as they were written: Expecting value",
    ),
    "odd arguments": (
        lambda path: rewritten(path, model={"name": "digits", "arguments": 3}),
        r"not as they were written: model is",
    ),
    "odd classes": (lambda path: rewritten(path, class_names=3), r"not as they were written: "),
    "an odd step": (lambda path: rewritten(path, step="3"), r"not as they were written: step is '3'"),
    "odd preprocessing": (
        lambda path: rewritten(path, preprocessing={"x": 1}), r"not as they were written: sample_shape is"
    ),
    "other weights": (lambda path: rewritten(path, tensors=other_bits), r"is damaged, or was changed: its"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_said_with_the_file(alone, case):
    damage, words = BAD[case]
    damage(alone)
    path = next(alone.parent.glob("weights.*"))
    with pytest.raises(lockstep.UserError, match=words) as refused:
        lockstep.load(path)
    assert "\n" not in str(refused.value)
    assert str(path) in str(refused.value) or "model: got" in str(refused.value)


def test_each_command_takes_it(alone, photos, tmp_path, capsys):
    test = photos / "test"
    for command, *arguments in (
        (show.main,), (evaluate.main, "--data", str(test)), (predict.main, str(test)),
        (export.main, str(tmp_path / "again.safetensors")),
    ):  # fmt: skip
        assert command([str(alone), *arguments]) == 0
        assert "green" in capsys.readouterr().out or command is export.main
    assert lockstep.load(tmp_path / "again.safetensors").class_names == ("blue", "green", "red")


def test_it_has_no_best_checkpoint(alone):
    for read in (lockstep.load, describe):
        with pytest.raises(
            lockstep.UserError, match=r"^best: .*weights.safetensors is one file; must be a run"
        ):
            read(alone, best=True)
