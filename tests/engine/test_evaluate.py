"""The command that evaluates a trained network; the figures are tested in tests/engine/trained."""

import json
import shutil

import numpy as np
import pytest

from engine.evaluate import main
from engine.run.compiling import LINE
from tests.engine.broken_disk import BrokenDisk
from tests.engine.trained.test_loading import copied, with_another_best


def evaluated(capsys, *arguments):
    """Return the exit code, the figures and the lines that are said."""
    code = main([*map(str, arguments), "--json", "--threads", "1"])
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else None, [line for line in err.splitlines() if line != LINE]


def test_a_run_is_evaluated_on_its_own_test_samples(digits_run, capsys):
    code, found, _ = evaluated(capsys, digits_run.folder)
    assert code == 0
    assert (found["data"], found["split"], found["samples"]) == ("digits", "test", 360)
    assert (found["loss"], found["accuracy"]) == (
        digits_run.results["test_loss"], digits_run.results["test_accuracy"]
    )  # fmt: skip
    assert np.array(found["confusion"]).sum() == 360


def test_threads_and_batch_change_no_bit(digits_run, capsys):
    reference = evaluated(capsys, digits_run.folder, "--tta", "mirror")
    for options in (["--batch", "5"], ["--batch", "100", "--threads", "3"]):
        assert evaluated(capsys, digits_run.folder, "--tta", "mirror", *options)[:2] == reference[:2]


def test_progress_is_said_while_it_goes_on(digits_run, capsys, monkeypatch):
    monkeypatch.setattr("engine.trained.progress.LINE_SECONDS", -1.0)
    _, _, said = evaluated(capsys, digits_run.folder, "--batch", "120")
    assert [line.split(",")[0] for line in said] == [f"{done} of 360 samples" for done in (120, 240, 360)]


def test_the_table_is_printed(photos_run, photos, capsys):
    assert main([str(photos_run.checkpoint), "--data", str(photos), "--split", "train"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"images:{photos}, train: 48 samples"
    assert lines[1].endswith("top-1 100.00%")
    assert lines[4].split() == ["blue", "16", "1.0000", "1.0000"]


def test_the_best_checkpoint_is_evaluated_by_saying_so(digits_run, tmp_path, capsys):
    run, _ = with_another_best(digits_run, tmp_path)
    for options, step in ((["--best"], 44), ([], 66)):
        code, found, said = evaluated(capsys, run, *options)
        assert (code, found["step"]) == (0, step)
        assert len(said) == (step == 66)


def test_a_picture_is_drawn(photos_run, tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="the extra plot is not installed")
    assert evaluated(capsys, photos_run.folder, "--picture", tmp_path / "c.svg")[0] == 0
    assert (tmp_path / "c.svg").read_text().startswith("<?xml")


def test_bad_samples_stop_or_are_said_and_the_code_is_2(photos_run, photos, tmp_path, capsys):
    shutil.copytree(photos / "test", tmp_path, dirs_exist_ok=True)
    (tmp_path / "red/02.png").write_bytes(b"no image")
    code, found, said = evaluated(capsys, photos_run.folder, "--data", tmp_path)
    assert (code, found) == (2, None)
    assert said == [f"error: {tmp_path}/red/02.png: cannot be decoded: it is no image that Pillow reads"]
    code, found, said = evaluated(capsys, photos_run.folder, "--data", tmp_path, "--on-bad-sample", "skip")
    assert (code, found["samples"], found["accuracy"]) == (2, 14, 1.0)
    assert said == [f"skipped: {each}" for each in found["skipped"]]
    assert len(said) == 1


BAD = {
    "no checkpoint": (["{tmp}"], "checkpoint: {tmp} holds no checkpoint"),
    "data that is not there": (["{run}", "--data", "images:{tmp}/no"], "{tmp}/no: no such folder"),
    "no data at all": (["{run}", "--data", "photoz"], 'data: got "photoz"'),
    "data of another shape": (["{run}", "--data", "{tmp}/d.py:data"], "has samples of shape (2, 2, 2)"),
    "another ending": (["{run}", "--picture", "{tmp}/c.pdf"], "picture: got {tmp}/c.pdf; must end in"),
    "no folder": (
        ["{run}", "--picture", "{tmp}/no/c.png"],
        "picture: {tmp}/no/c.png: there is no folder {tmp}/no",
    ),
    "a folder": (
        ["{run}", "--picture", "{tmp}/d.png"],
        "picture: {tmp}/d.png: is a folder; give the name of a file",
    ),
    "a batch of nothing": (["{run}", "--batch", "-3"], "batch: got -3; must be from 0"),
    "a split that is not there": (
        ["{run}", "--data", "synthetic", "--split", "test"],
        "split: synthetic has no",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_mistake_is_one_line_and_code_2_before_anything_is_computed(digits_run, tmp_path, capsys, case):
    pytest.importorskip("matplotlib", reason="the extra plot is not installed")
    arguments, words = BAD[case]
    (tmp_path / "d.png").mkdir()
    (tmp_path / "d.py").write_text(
        "import lockstep, numpy as np\n\n"
        "def data():\n"
        "    return lockstep.DataSource(lockstep.ArrayDataset(np.zeros((1, 2, 2, 2)), [0]), None)\n"
    )
    given = [each.format(tmp=tmp_path, run=digits_run.folder) for each in arguments]
    code, found, said = evaluated(capsys, *given)
    assert (code, found, len(said)) == (2, None, 1)
    assert said[0].startswith("error: ")
    assert words.format(tmp=tmp_path) in said[0]
    assert sorted(each.name for each in tmp_path.iterdir() if each.name != "__pycache__") == ["d.png", "d.py"]


def test_a_picture_takes_the_place_of_no_image_that_is_evaluated(photos_run, photos, tmp_path, capsys):
    shutil.copytree(photos / "test", tmp_path / "data")
    image = next((tmp_path / "data").rglob("*.png"))
    before = image.read_bytes()
    options = ("--data", f"images:{tmp_path / 'data'}", "--picture", image, "--overwrite")
    code, _, said = evaluated(capsys, photos_run.folder, *options)
    assert code == 2
    assert said == [
        f"error: picture: {image}: is what is read here, and is not written over; give another name"
    ]
    assert image.read_bytes() == before


def test_a_picture_that_is_there_is_not_written_over_unless_asked(digits_run, tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="the extra plot is not installed")
    (path := tmp_path / "c.png").write_text("mine")
    code, _, said = evaluated(capsys, digits_run.folder, "--picture", path)
    assert (code, path.read_text()) == (2, "mine")
    assert said == [f"error: picture: {path}: exists; give another name, or --overwrite"]
    assert evaluated(capsys, digits_run.folder, "--picture", path, "--overwrite")[0] == 0
    assert path.read_bytes().startswith(b"\x89PNG")


def test_a_cut_file_and_another_model_are_one_line(digits_run, tmp_path, capsys):
    checkpoint = copied(digits_run, tmp_path)
    state = (checkpoint / "state.json").read_text()
    (checkpoint / "state.json").write_text(state.replace('model = \\"digits\\"', 'model = \\"mnist\\"'))
    code, _, said = evaluated(capsys, checkpoint)
    assert (code, len(said)) == (2, 1)
    assert "the model wants float32" in said[0]
    (checkpoint / "model.safetensors").write_bytes(b"")
    code, _, said = evaluated(capsys, checkpoint)
    assert (code, len(said)) == (2, 1)
    assert "model.safetensors: cannot be read as safetensors" in said[0]


def test_a_full_disk_leaves_the_old_picture_and_nothing_half_written(photos_run, tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="the extra plot is not installed")
    picture = tmp_path / "c.png"
    picture.write_bytes(b"old")
    with pytest.MonkeyPatch.context() as patch:
        disk = BrokenDisk(tmp_path, 5, "full")  # what tries the place makes and removes a file
        disk.install(patch)
        code, found, said = evaluated(capsys, photos_run.folder, "--picture", picture, "--overwrite")
    assert code == 2
    assert found["accuracy"] == 1.0
    assert said == [f"error: picture: {picture}: cannot be written: No space left on device"]
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("c.png", b"old")]
