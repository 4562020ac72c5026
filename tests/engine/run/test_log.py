"""What a run tells, on a terminal and elsewhere."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

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
    assert capsys.readouterr().err == "step 1/4: loss 0.5000, 10 samples/s\n"


def test_other_ranks_are_silent(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with RunLog(None, total_steps=4, first_step=0) as log:
        log.say("hello")
        log.step(STEP)
        log.finish({"steps": 1})
    assert not capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_null_in_json_and_warned_of_once(tmp_path, capsys, loss):
    with RunLog(tmp_path, total_steps=4, first_step=0) as log:
        for step in (1, 2):
            log.step({**STEP, "step": step, "loss": loss})
        log.finish({"final_loss": loss})
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in lines] == [None, None]
    assert json.loads((tmp_path / "run.json").read_text()) == {"final_loss": None}
    assert capsys.readouterr().err == f"warning: step 1: the loss is {loss}; a lower --lr may help\n"


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
    assert terminal.getvalue() == "step 1/4: loss 0.5000, 10 samples/s\n"


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
