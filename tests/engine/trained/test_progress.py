"""Progress over samples."""

import io
import sys

import pytest

from engine.trained import progress as module
from engine.trained.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_without_a_terminal_a_line_is_said_now_and_then(capsys, monkeypatch):
    monkeypatch.setattr(module, "LINE_SECONDS", -1.0)
    with Progress(200) as progress:
        progress.at(50)
        progress.at(900)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("50 of 200 samples, ")
    assert lines[0].endswith(" left")
    assert lines[1].startswith("200 of 200 samples, ")
    with Progress(200, shown=False) as progress:
        progress.at(50)
        progress.say("nothing")
    assert capsys.readouterr().err == ""


def test_a_quick_end_says_nothing(capsys):
    with Progress(10) as progress:
        progress.at(10)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("bar", [True, False])
def test_on_a_terminal_there_is_a_bar_unless_results_go_there(monkeypatch, bar):
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with Progress(bar=bar) as progress:
        progress.at(3, 40)
        progress.say("a line\x1b[2J")
    assert "a line\\x1b[2J\n" in screen.getvalue()
    assert ("3/40" in screen.getvalue()) == bar
