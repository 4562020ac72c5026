"""What a run tells, on a terminal and elsewhere."""

import errno
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from engine.config.errors import UserError
from engine.run.log import RunLog, to_json

ROOT = Path(__file__).parents[3]
STEP = {"step": 1, "loss": 0.5, "samples_per_second": 10.0}


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_gets_a_progress_bar(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with RunLog(tmp_path, total_steps=4, first_step=0) as log:
        log.say("hello")
        for step in range(1, 5):
            log.step({**STEP, "step": step})
    assert "hello" in terminal.getvalue()
    assert "4/4" in terminal.getvalue()
    assert "loss=0.5000" in terminal.getvalue()


def test_others_get_a_line_now_and_then(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("engine.run.log.LINE_SECONDS", 0.0)
    with RunLog(tmp_path, total_steps=4, first_step=0) as log:
        log.step(STEP)
    assert capsys.readouterr().err == "epoch 1, step 1/4: loss 0.5000\n"


def test_lines_tell_epoch_rate_and_time_left_once_the_first_steps_have_compiled(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("engine.run.log.LINE_SECONDS", 0.0)
    with RunLog(tmp_path, total_steps=10, first_step=0) as log:
        for step in range(1, 7):
            log.step({"step": step, "epoch": step // 4, "loss": 0.5, "samples_per_second": float(step)})
    lines = capsys.readouterr().err.splitlines()
    assert lines[:3] == [f"epoch 1, step {step}/10: loss 0.5000" for step in (1, 2, 3)]
    assert re.fullmatch(r"epoch 2, step 6/10: loss 0\.5000, 6 samples/s, 0:00 left", lines[5])


class FullDisk(io.BytesIO):
    """Takes some bytes, then fails, also when it is closed with something left in it."""

    def __init__(self, room):
        super().__init__()
        self.room = room

    def write(self, data):
        taken = min(len(data), self.room)
        self.room -= taken
        if not taken:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data[:taken])


@pytest.mark.parametrize("room", [0, 10, 100])
def test_metrics_lines_on_a_full_disk_are_one_warning_and_at_the_end_one_error(
    tmp_path, monkeypatch, capsys, room
):
    monkeypatch.setattr(Path, "open", lambda *_, **__: FullDisk(room))
    wanted = pytest.raises(UserError, match=r"^out: .*: cannot be written: No space left on device")
    with wanted as end, RunLog(tmp_path, total_steps=100, first_step=0) as log:
        for step in range(1, 9):
            log.step({**STEP, "step": step})
        log.finish({})
    assert isinstance(end.value.__cause__, OSError)
    assert end.value.__context__ is end.value.__cause__
    assert log.warnings == [
        f"{tmp_path}/metrics.jsonl: cannot be written: No space left on device; the run goes on, and its "
        "lines are kept until they can"
    ]
    assert capsys.readouterr().err == f"warning: {log.warnings[0]}\n"


@pytest.mark.parametrize("room", [0, 10, 100])
def test_metrics_lines_are_whole_when_a_full_disk_has_room_again(tmp_path, monkeypatch, room):
    disk, count = FullDisk(room), 8
    monkeypatch.setattr(Path, "open", lambda *_, **__: disk)
    with RunLog(tmp_path, total_steps=100, first_step=0) as log:
        for step in range(1, count + 1):
            if step == count:
                disk.room = 1 << 20
            log.step({**STEP, "step": step})
        content = disk.getvalue()
    assert [json.loads(line)["step"] for line in content.splitlines()] == [*range(1, count + 1)]
    assert len(log.warnings) == 1


def test_metrics_have_no_buffer_whose_flush_could_fail(tmp_path):
    with RunLog(tmp_path, total_steps=4, first_step=0) as log:
        (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
        log.step(STEP)
        with pytest.raises(UserError, match="cannot be written"):
            log.finish({})


def test_a_run_without_a_step_leaves_nothing_that_refuses_the_next_start(tmp_path):
    with RunLog(tmp_path, total_steps=4, first_step=0) as log:
        log.say("hello")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("calls", range(0, 30, 3))
@pytest.mark.parametrize("kind", ["terminal", "pipe"])
def test_a_stream_that_fails_at_any_write_stops_nothing(tmp_path, monkeypatch, kind, calls):
    class Failing(io.StringIO):
        left = calls

        def isatty(self):
            return kind == "terminal"

        def write(self, text):
            self.left -= 1
            if self.left < 0:
                raise BrokenPipeError
            return super().write(text)

    monkeypatch.setattr("engine.run.log.LINE_SECONDS", 0.0)
    monkeypatch.setattr("engine.run.progress_bar._REFRESH_S", 0.0, raising=False)
    monkeypatch.setattr(sys, "stderr", Failing())
    with RunLog(tmp_path, total_steps=9, first_step=0) as log:
        log.say("hello")
        for step in range(1, 10):
            log.step({**STEP, "step": step})
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 9


def test_other_ranks_are_silent(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with RunLog(None, total_steps=4, first_step=0) as log:
        log.say("hello")
        log.step(STEP)
        log.finish({"steps": 1})
    assert not capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_null_in_json(tmp_path, loss):
    with RunLog(tmp_path, total_steps=4, first_step=0) as log:
        for step in (1, 2):
            log.step({**STEP, "step": step, "loss": loss})
        log.finish({"final_loss": loss})
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in lines] == [None, None]
    assert json.loads((tmp_path / "run.json").read_text()) == {"final_loss": None}


def test_json_has_no_infinity():
    assert (
        to_json({"a": float("-inf"), "b": 1.5, "c": None, "d": 3})
        == '{"a": null, "b": 1.5, "c": null, "d": 3}'
    )


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    monkeypatch.setattr("engine.run.log.LINE_SECONDS", 0.0)
    monkeypatch.setenv("TERM", "dumb")
    with RunLog(tmp_path, total_steps=4, first_step=0) as log:
        log.step(STEP)
    assert terminal.getvalue() == "epoch 1, step 1/4: loss 0.5000\n"


def test_no_library_for_terminals_is_imported_where_there_is_none(tmp_path):
    code = "import sys; from pathlib import Path; from engine.run.log import RunLog; "
    code += "log = RunLog(Path('.'), total_steps=1, first_step=0); print('rich' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"


def test_a_run_that_is_not_written_down_speaks_all_the_same(capsys, monkeypatch):
    monkeypatch.setattr("engine.run.log.LINE_SECONDS", -1.0)
    with RunLog(None, total_steps=4, first_step=0, speaks=True) as log:
        log.say("hello")
        log.step({"step": 1, "loss": 0.5, "samples_per_second": 10.0})
    assert capsys.readouterr().err == "hello\nepoch 1, step 1/4: loss 0.5000\n"
