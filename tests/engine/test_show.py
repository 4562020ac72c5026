"""The command that says what a checkpoint is."""

import json
import re
import shutil
from hashlib import sha256

import pytest
from safetensors import safe_open

from engine.run.checkpoint import LOCKSTEP, read_state
from engine.show import main
from tests.engine.trained.test_loading import copied, make_older, with_another_best


def test_a_checkpoint_explains_itself(photos_run, capsys):
    assert main([str(photos_run.checkpoint), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["class_names"] == ["blue", "green", "red"]
    assert told["preprocessing"] == {
        "sample_shape": [3, 16, 16], "colours": "RGB", "size": "cover", "upright": "EXIF",
        "mean": [0.485, 0.456, 0.406], "deviation": [0.229, 0.224, 0.225], "white": 255,
        "share": 1.0,
    }  # fmt: skip
    assert told["model"] == {
        "name": "digits", "arguments": {"image": [3, 16, 16], "classes": 3},
        "input_shape": [3, 16, 16], "outputs": 3,
    }  # fmt: skip
    assert told["tensors"] == {
        "convolutions": "OIHW", "fully connected": "[out, in]", "precision": "float32"
    }  # fmt: skip
    assert told["weights_sha256"] == photos_run.results["weights_sha256"]
    assert {"name": "fc5.weight", "shape": [3, 128], "dtype": "F32"} in told["tensor_list"]
    assert "run" not in told


def test_the_recipes_hash_is_that_of_its_text(photos_run):
    state = read_state(photos_run.checkpoint)
    assert state.recipe_sha256 == sha256((photos_run.folder / "recipe.toml").read_bytes()).hexdigest()


def test_the_weights_alone_say_the_same(photos_run):
    with safe_open(photos_run.checkpoint / "model.safetensors", "numpy") as file:
        metadata = file.metadata()
    assert list(metadata) == [LOCKSTEP]
    assert json.loads(metadata[LOCKSTEP]) == json.loads(json.dumps(read_state(photos_run.checkpoint).about()))


def test_it_is_printed_for_a_reader(photos_run, capsys):
    assert main([str(photos_run.checkpoint)]) == 0
    lines = {line[:14].strip(): line[14:].strip() for line in capsys.readouterr().out.splitlines()}
    assert lines["classes"] == "3: blue, green, red"
    assert lines["preprocessing"] == (
        "3 x 16 x 16 RGB; upright by EXIF; resized to cover it (bilinear), cut around the centre; "
        "mean 0.485 0.456 0.406, deviation 0.229 0.224 0.225, white 255"
    )
    assert lines["model"] == "digits(image=[3, 16, 16], classes=3): reads 3 x 16 x 16, 3 outputs"
    assert lines["conv1.weight"] == "F32 [32, 3, 3, 3]"


def test_a_run_is_shown_with_its_checkpoints_the_newest_and_the_best(digits_run, capsys):
    assert main([str(digits_run.folder), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["run"]
    assert told["newest"] == str(digits_run.checkpoint)
    assert told["best"] == str(digits_run.best)
    assert told["results"]["weights_sha256"] == digits_run.results["weights_sha256"]
    assert main([str(digits_run.folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["run", str(digits_run.folder)]
    assert f"test_accuracy {digits_run.results['test_accuracy']:.6g}, interrupted false" in lines[1]
    assert sum("checkpoints/step-" in line for line in lines) - 1 == len(told["checkpoints"])
    assert sum("(newest" in line for line in lines) == sum("best)" in line for line in lines) == 1


def test_the_best_checkpoint_is_shown_by_saying_so(digits_run, tmp_path, capsys):
    run, best = with_another_best(digits_run, tmp_path)
    assert main([str(run), "--best"]) == 0
    out = capsys.readouterr().out
    assert f"checkpoint      {best}\n" in out
    assert f"{best} (best)\n" in out
    assert "(newest)\n" in out
    assert main([str(run), "--best", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["step"], told["checkpoint"], told["run"]["best"]) == (44, str(best), str(best))
    assert told["run"]["newest"] == str(best.with_name("step-00000066"))


def test_what_was_changed_on_the_way_is_shown(digits_run, tmp_path, capsys):
    path = copied(digits_run, tmp_path) / "state.json"
    change = {"step": 2, "what": "schedule.rate", "from": 0.05, "to": 0.01}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"history": [change]}))
    assert main([str(path.parent)]) == 0
    assert "changed" in (out := capsys.readouterr().out)
    assert "after step 2: schedule.rate from 0.05 to 0.01\n" in out
    assert main([str(path.parent), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["history"] == [change]


def test_an_earlier_checkpoint_is_shown_as_far_as_it_says(digits_run, tmp_path, capsys):
    checkpoint = copied(digits_run, tmp_path)
    make_older(checkpoint)
    (checkpoint / "optimizer.safetensors").unlink()
    assert main([str(checkpoint)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum("not said: written by an earlier version" in line for line in lines) == 5
    assert any(line.startswith("normalisation") and "0.1664" in line for line in lines)


def cut(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


BAD = {
    "no checkpoint": (shutil.rmtree, r"checkpoint: \S+ holds no checkpoint"),
    "cut weights": (cut, r"model.safetensors: cannot be read as safetensors"),
    "cut state": (lambda folder: (folder / "state.json").write_text("{"), r"state.json: cannot be read"),
    "a recipe of another version": (
        lambda folder: (folder / "state.json").write_text(
            (folder / "state.json").read_text().replace("batch = 64", "bacth = 64")
        ),
        "bacth",
    ),
    "damaged results": (
        lambda folder: (folder.parents[1] / "run.json").write_text("[]"),
        "run.json: is damaged",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_one_line_and_code_2(digits_run, tmp_path, capsys, case):
    damage, words = BAD[case]
    folder = copied(digits_run, tmp_path).parents[1]
    for checkpoint in (folder / "checkpoints").glob("step-*"):
        damage(checkpoint)
    assert main([str(folder)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith("error: ")
    assert re.search(words, err)
