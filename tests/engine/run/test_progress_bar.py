"""The progress bar of a terminal."""

import io
import threading

import pytest

from engine.run.pace import Pace
from engine.run.progress_bar import ProgressBar

RECORD = {"epoch": 2, "loss": 0.25, "samples_per_second": 12_345.6}


@pytest.fixture
def terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("NO_COLOR", "1")
    return Terminal()


def test_the_bar_shows_epoch_step_loss_speed_and_the_time_left(terminal):
    bar = ProgressBar(terminal, total_steps=4, first_step=1)
    pace = Pace(total_steps=4, first_step=1)
    for step in (2, 3, 4):
        pace.step(step, RECORD["samples_per_second"])
        bar.step(RECORD | {"step": step}, pace)
    bar.close()
    (last,) = [line for line in terminal.getvalue().splitlines() if "4/4" in line]
    for part in ("epoch 3 ", "loss=0.2500", "12,346 samples/s", "0:00 left"):
        assert part in last


def test_lines_go_above_the_bar_as_they_are(terminal):
    bar = ProgressBar(terminal, total_steps=4, first_step=0)
    bar.say("[bold]x[/bold] :smile: " + "y" * 200)
    bar.close()
    assert "[bold]x[/bold] :smile: " + "y" * 200 + "\n" in terminal.getvalue()


def test_lines_above_the_bar_move_no_cursor(terminal):
    bar = ProgressBar(terminal, total_steps=4, first_step=0)
    bar.say("a\x1b[2Jb\rc")
    bar.close()
    assert "a\\x1b[2Jb\\rc\n" in terminal.getvalue()


def test_no_thread_redraws_the_bar_and_the_cursor_stays(terminal):
    before = threading.active_count()
    bar = ProgressBar(terminal, total_steps=4, first_step=0)
    assert threading.active_count() == before
    assert terminal.getvalue().rfind("\x1b[?25h") > terminal.getvalue().rfind("\x1b[?25l")
    bar.close()
