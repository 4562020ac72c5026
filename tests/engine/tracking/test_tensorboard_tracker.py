"""Event files for TensorBoard, read back by themselves and by TensorBoard."""

import errno
import json
import os

import pytest

from engine.tracking import tensorboard_tracker
from engine.tracking.tensorboard_tracker import TensorBoardTracker
from engine.tracking.tracker import DONE, FAILED, INTERRUPTED
from tests.engine.tracking.written import RESULTS, about, events, line, scalars, texts

pytest.importorskip("tensorboardX", reason="needs the extra tensorboard")


def as_tensorboard_reads(folder):
    """Return (step, value) of each scalar by the reader that TensorBoard uses."""
    pytest.importorskip("tensorboard", reason="needs TensorBoard: pip install tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # noqa: PLC0415 -- an extra

    read = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    read.Reload()
    return {name: [(each.step, each.value) for each in read.Scalars(name)] for name in read.Tags()["scalars"]}


def track(run, lines, *, ending=DONE, results=RESULTS):
    tracker = TensorBoardTracker(run)
    tracker.begin()
    tracker.write(lines)
    tracker.end(ending, results)
    return run.folder / "tensorboard"


@pytest.mark.parametrize("read", [scalars, as_tensorboard_reads])
def test_a_run_that_goes_on_has_each_step_once(tmp_path, read):
    folder = track(about(tmp_path / "run"), [line(1, 4.0), line(2, 3.0), line(3, 9.0)], ending=FAILED)
    assert read(folder)["step/loss"] == [(1, 4.0), (2, 3.0), (3, 9.0)]
    track(about(tmp_path / "run", step=2), [line(3, 2.0), line(4, 1.0), line(4, 0.5, "epoch")])
    found = read(folder)
    assert found["step/loss"] == [(1, 4.0), (2, 3.0), (3, 2.0), (4, 1.0)]
    assert found["epoch/loss"] == [(4, 0.5)]


def test_recipe_results_and_ending_are_texts(tmp_path):
    folder = track(about(tmp_path / "run"), [], ending=INTERRUPTED)
    found = texts(folder)
    assert found["recipe"] == "    batch = 64\n"
    assert (found["ended"], found["weights_sha256"]) == ("interrupted", "abc")
    assert json.loads(found["results"]) == RESULTS


@pytest.mark.parametrize(("ending", "status"), [(DONE, 1), (INTERRUPTED, 2), (FAILED, 2)])
def test_hyperparameters_are_the_recipe_and_say_how_the_run_ended(tmp_path, ending, status):
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData  # noqa: PLC0415 -- an extra

    folder = track(about(tmp_path / "run"), [], ending=ending, results={})
    held = {
        value.tag: HParamsPluginData.FromString(value.metadata.plugin_data.content)
        for event in events(folder)
        for value in event.summary.value
        if value.metadata.plugin_data.plugin_name == "hparams"
    }
    given = held["_hparams_/session_start_info"].session_start_info.hparams
    assert given["batch"].number_value == 64
    assert given["schedule.rate"].number_value == 0.1
    assert given["model"].string_value == "digits"
    assert held["_hparams_/session_end_info"].session_end_info.status == status


def test_a_folder_of_several_runs_has_one_for_each_and_a_run_finds_its_own(tmp_path):
    for name in ("a", "b", "a"):
        (tmp_path / name).mkdir(exist_ok=True)
        run = about(tmp_path / name / "run", place="boards")
        track(run, [line(1, float(ord(name)))])
    boards = [tmp_path / name / "boards/run" for name in ("a", "b")]
    assert [scalars(folder)["step/loss"] for folder in boards] == [[(1, 97.0)], [(1, 98.0)]]
    other = about(tmp_path / "c", place=str(tmp_path / "a/boards"))
    track(other, [line(1, 1.0)])
    assert scalars(tmp_path / "a/boards/run-2")["step/loss"] == [(1, 1.0)]
    assert len(list((tmp_path / "a/boards/run").iterdir())) == 2


def test_what_a_full_disk_has_taken_of_an_event_is_cut_off_again(tmp_path, monkeypatch):
    class Full(tensorboard_tracker.FileIO):
        left = None

        def write(self, content):
            if self.left is None:
                return super().write(content)
            if self.left == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            taken = super().write(content[: self.left])
            Full.left -= taken
            return taken

    monkeypatch.setattr(tensorboard_tracker, "FileIO", Full)
    tracker = TensorBoardTracker(about(tmp_path / "run"))
    tracker.begin()
    tracker.write([line(1, 4.0)])
    Full.left = 30
    with pytest.raises(OSError, match="No space left"):
        tracker.write([line(2, 3.0), line(3, 2.0)])
    Full.left = None
    tracker.begin()
    tracker.write([line(2, 3.0), line(3, 2.0)])
    tracker.end(DONE, RESULTS)
    assert scalars(tmp_path / "run/tensorboard")["step/loss"] == [(1, 4.0), (2, 3.0), (3, 2.0)]


def test_what_was_written_and_not_noted_is_not_there_twice(tmp_path):
    run = about(tmp_path / "run")
    tracker = TensorBoardTracker(run)
    tracker.begin()
    tracker.write([line(1, 4.0), line(2, 3.0)])
    notes = tmp_path / "run/tracking_tensorboard.json"
    noted = notes.read_bytes()
    tracker.write([line(2, 0.5, "epoch"), line(3, 2.0)])
    tracker.end(FAILED, {})
    notes.write_bytes(noted)
    again = TensorBoardTracker(about(tmp_path / "run", step=3))
    assert again.begin() == 2
    again.write([line(2, 3.0), line(2, 0.5, "epoch"), line(3, 2.0)])
    again.end(DONE, RESULTS)
    found = scalars(tmp_path / "run/tensorboard")
    assert found["step/loss"] == [(1, 4.0), (2, 3.0), (3, 2.0)]
    assert found["epoch/loss"] == [(2, 0.5)]
