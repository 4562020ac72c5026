"""The one place that talks to the terminal: who reads, or does not, changes nothing of what a program does.

After its first error (the reader of a pipe has gone, the disk of a log is full, closed from the start) a
stream is given up without a word: its descriptor leads to /dev/null from then on, so that neither what is
still buffered nor the interpreter's own flush at the end can fail. A command calls `guard` first, which holds
for everything that prints: argparse, a user's own code. `say` and `show` need no guard, for a run inside
somebody else's program.

What is printed quotes users' files, whose names, and what is in them, may be anything: in lines no control
character reaches the terminal but the end of a line and the tabulator.
"""

import io
import os
import re
import select
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, BinaryIO, Final, TextIO, cast

PIECE_BYTES = 4096  # a pipe that is ready takes so much at once without blocking
PATIENCE_S = 1.0  # for a terminal stopped by Ctrl-S, or a pipe that nobody empties

STDOUT, STDERR = 1, 2

_CONTROL = r"[\x00-\x08\x0b-\x1f\x7f-\x9f]"
_HARMFUL = re.compile(_CONTROL)
_HARMFUL_BESIDE_COLOURS = re.compile(rf"(?!\x1b\[[0-9;]*m){_CONTROL}")


class Output:
    """One of the process's streams, as `sys` has it at the moment of a call; no call raises an OSError.

    It has what the progress bar needs of a text stream.
    """

    def __init__(self, name: str, number: int):
        self._name, self._number = name, number
        self._lost: TextIO | None = None  # the stream that was given up; a program may put another in place

    @property
    def encoding(self) -> str:
        """The stream's encoding."""
        return getattr(self._stream(), "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        """Say whether it is a terminal."""
        stream = self._stream()
        return stream is not None and bool(self._guarded(stream, stream.isatty))

    def redraws(self) -> bool:
        """Say whether what is on it can be drawn again, as a progress bar is."""
        return self.isatty() and os.environ.get("TERM") != "dumb"

    def write(self, text: str) -> int:
        """Write text as it is; a line shows at once."""
        stream = self._stream()
        if stream is not None:
            self._guarded(stream, lambda: stream.write(text))
            if text.endswith("\n"):
                self.flush()
        return len(text)

    def line(self, text: str) -> None:
        """Write a line in one piece, so that lines of several ranks do not mix."""
        self.write(f"{text}\n")

    def flush(self) -> None:
        """Write what is buffered."""
        stream = self._stream()
        if stream is not None:
            self._guarded(stream, stream.flush)

    def _stream(self) -> TextIO | None:
        stream: TextIO | None = getattr(sys, self._name)
        return None if stream is self._lost else stream

    def _guarded(self, stream: TextIO, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except Exception:  # a stream may be anybody's: whatever is wrong with it is no reason to end
            self._lost = stream
            with suppress(OSError, ValueError):
                if stream.fileno() == self._number:
                    _give_up(self._number)
            return None


OUTPUT: Final = Output("stdout", STDOUT)
"""For results, which other programs read."""
ERRORS: Final = Output("stderr", STDERR)
"""For everything that is said to the user."""


def harmless(text: str, *, coloured: bool = False) -> str:
    r"""Return text in which control characters but \n and \t are spelt out: nothing moves the cursor.

    With `coloured` the sequences that set colours stay, which the text has of our own.
    """
    found = _HARMFUL_BESIDE_COLOURS if coloured else _HARMFUL
    return found.sub(lambda each: repr(each[0])[1:-1], text)


def say(line: str) -> None:
    """Print a line to stderr."""
    ERRORS.line(harmless(line))


def show(text: str, *, coloured: bool = False) -> None:
    """Print results to stdout."""
    OUTPUT.line(harmless(text, coloured=coloured))


def flush() -> None:
    """Write what both streams have buffered."""
    OUTPUT.flush()
    ERRORS.flush()


def write_now(text: str) -> None:
    """Write to stderr past its buffer, as a signal's handler must: it may have stopped another write."""
    with suppress(OSError):
        ready = select.poll()
        ready.register(STDERR, select.POLLOUT)
        if ready.poll(PATIENCE_S * 1000):
            os.write(STDERR, text.encode())


def guard() -> None:
    """Let nothing that this process prints fail, from now on until it has ended.

    Descriptors closed from the start are opened on /dev/null: the next file to be opened would get such a
    number, and messages of libraries with it. Streams that a program has put in place are left alone.
    """
    for number in (0, STDOUT, STDERR):
        try:
            os.fstat(number)
        except OSError:
            _give_up(number)
    for name, number, patience in (("stdout", STDOUT, None), ("stderr", STDERR, PATIENCE_S)):
        stream = getattr(sys, name)
        if stream is None or _leads_to(stream, number):
            setattr(sys, name, _guarded_stream(number, patience, like=stream))


class _Descriptor(io.FileIO):
    """A descriptor whose writes never fail.

    Parameters
    ----------
    patience_s
        For a reader that does not read; then what is written is dropped, until there is room. None waits.
    """

    def __init__(self, number: int, patience_s: float | None):
        super().__init__(number, "w", closefd=False)
        self._patience_s, self._stalled = patience_s, False
        self._poll = select.poll()
        self._poll.register(number, select.POLLOUT)

    def write(self, data: Any) -> int:
        """Write bytes, or drop them; say that all are written."""
        left = memoryview(data).cast("B")
        length = len(left)
        try:
            while left and self._has_room():
                left = left[super().write(left[:PIECE_BYTES]) or 0 :]
        except OSError:
            _give_up(self.fileno())
        return length

    def _has_room(self) -> bool:
        wait_s = 0.0 if self._stalled else self._patience_s
        self._stalled = not self._poll.poll(None if wait_s is None else wait_s * 1000)
        return not self._stalled


def _guarded_stream(number: int, patience_s: float | None, *, like: TextIO | None) -> TextIO:
    if like is not None:
        with suppress(OSError, ValueError):
            like.flush()
    descriptor, unbuffered = _Descriptor(number, patience_s), bool(getattr(like, "write_through", False))
    return io.TextIOWrapper(
        cast(BinaryIO, descriptor) if unbuffered else io.BufferedWriter(descriptor),
        encoding=getattr(like, "encoding", None),
        errors="backslashreplace",
        line_buffering=number == STDERR or bool(getattr(like, "line_buffering", False)),
        write_through=unbuffered,
    )


def _leads_to(stream: TextIO, number: int) -> bool:
    """Say whether a stream is Python's own, which is not guarded yet."""
    with suppress(OSError, ValueError, AttributeError):
        raw = getattr(stream.buffer, "raw", stream.buffer)  # `python -u` has nothing between
        return stream.fileno() == number and not isinstance(raw, _Descriptor)
    return False


def _give_up(number: int) -> None:
    """Let a descriptor lead to /dev/null."""
    null = os.open(os.devnull, os.O_RDWR)
    if null != number:  # a closed number may be the lowest free one
        os.dup2(null, number)
        os.close(null)
