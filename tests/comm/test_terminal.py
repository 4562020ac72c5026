"""No error of an output stream, of any kind and at any moment, reaches the program that prints."""

import errno
import io
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import pytest

from comm import terminal

ROOT = Path(__file__).parents[2]
BEGIN = "import sys; from comm import terminal; terminal.guard(); "
TALK = "[print('out', i, flush=True) or terminal.say(f'err {i}') or terminal.show('x') for i in range(5)]; "
FULL = Path("/dev/full")


class Failing(io.StringIO):
    """Fails from the n-th write or flush on."""

    def __init__(self, calls: int, error: Exception):
        super().__init__()
        self.calls, self.error = calls, error

    def write(self, text: str) -> int:
        self._count()
        return super().write(text)

    def flush(self) -> None:
        self._count()

    def _count(self) -> None:
        self.calls -= 1
        if self.calls < 0:
            raise self.error


@pytest.mark.parametrize(
    "error", [BrokenPipeError(), OSError(errno.ENOSPC, "full"), OSError(errno.EIO, ""), ValueError("closed")]
)
@pytest.mark.parametrize("calls", range(7))
def test_a_stream_is_given_up_at_its_first_error(
    monkeypatch: pytest.MonkeyPatch, calls: int, error: Exception
) -> None:
    monkeypatch.setattr(sys, "stderr", stream := Failing(calls, error))
    for number in range(3):
        terminal.say(f"line {number}")
    assert stream.calls == (-1 if calls < 6 else 0)  # nothing was tried after the first error
    assert len(stream.getvalue().splitlines()) == min((calls + 1) // 2, 3)


def test_a_stream_that_takes_the_place_of_a_lost_one_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Failing(0, BrokenPipeError()))
    terminal.say("lost")
    monkeypatch.setattr(sys, "stderr", after := io.StringIO())
    terminal.say("there")
    assert after.getvalue() == "there\n"


def test_no_stream_at_all_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    terminal.say("nobody")
    terminal.show("hears")
    terminal.flush()
    assert not terminal.ERRORS.isatty()
    assert terminal.ERRORS.encoding == "utf-8"


def ends_well(
    code: str, *, stdout: TextIO | int = subprocess.PIPE, stderr: TextIO | int = subprocess.PIPE
) -> None:
    command: Sequence[str] = [sys.executable, "-c", code + "sys.exit(7)"]
    done = subprocess.run(command, cwd=ROOT, stdout=stdout, stderr=stderr, text=True, check=False)
    assert done.returncode == 7, done.stderr
    assert "Error" not in (done.stderr or "") + (done.stdout or "")


@pytest.mark.parametrize(
    "begin", [BEGIN, "import sys; from comm import terminal; print = lambda *_, **__: 0; "]
)
@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_full_device_changes_neither_the_end_nor_its_code(begin: str, stream: str) -> None:
    with FULL.open("w") as full:
        if stream == "stdout":
            ends_well(begin + TALK, stdout=full)
        else:
            ends_well(begin + TALK, stderr=full)


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_pipe_whose_reader_has_gone_changes_nothing(stream: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        if stream == "stdout":
            ends_well(BEGIN + TALK + "print('left for the end'); ", stdout=pipe)
        else:
            ends_well(BEGIN + TALK + "sys.stderr.write('left for the end'); ", stderr=pipe)


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_descriptors_closed_from_the_start_are_given_to_no_file(tmp_path: Path, closed: str) -> None:
    file = tmp_path / "file"
    code = BEGIN + TALK + f"file = open({str(file)!r}, 'w'); import os; os.write(2, b'noise'); sys.exit(7)"
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, code],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 7, done.stderr
    assert not file.read_text()
    assert "Error" not in done.stderr


def test_a_pipe_that_nobody_reads_holds_nothing_up() -> None:
    reader, writer = os.pipe()
    code = BEGIN + "[terminal.say('x' * 1000) for _ in range(200)]; "
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, stderr=writer, timeout=20, check=False)
    os.close(writer)
    os.close(reader)
    assert done.returncode == 0


def test_a_slow_reader_of_results_gets_all_of_them() -> None:
    code = BEGIN + "terminal.show('x' * 500_000)"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.5)
    out, _ = process.communicate(timeout=10)
    assert len(out) == 500_001
    assert process.returncode == 0


NASTY = "".join(map(chr, range(0xA1))) + "é\u2500"


def test_lines_move_no_cursor_and_name_what_would_have(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.say(f"a\x1b]0;title\x07\rb\x9b2J\tc\nd{NASTY}")
    terminal.show(f"a\x1b[31mred{NASTY}")
    out, err = capsys.readouterr()
    assert err.startswith("a\\x1b]0;title\\x07\\rb\\x9b2J\tc\nd\\x00\\x01")
    assert out.startswith("a\\x1b[31mred\\x00")
    for text in (out, err):
        assert all(each.isprintable() or each in "\n\t\xa0" for each in text)
        assert text.endswith("é\u2500\n")


def test_our_own_colours_stay_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.show("\x1b[34m#\x1b[0m a\x1b[2Jb\x1b[1;31", coloured=True)
    assert capsys.readouterr().out == "\x1b[34m#\x1b[0m a\\x1b[2Jb\\x1b[1;31\n"


def test_what_is_written_piece_by_piece_is_left_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.ERRORS.write("\x1b[2K\r")  # as a progress bar does
    assert capsys.readouterr().err == "\x1b[2K\r"
