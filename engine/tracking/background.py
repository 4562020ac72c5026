"""A tracker on a thread of its own: neither a slow one nor one that fails holds a run up."""

import threading
from collections import deque
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

from engine.config.wording import shortened
from engine.host.unpinned import run_anywhere
from engine.tracking.earlier import missed
from engine.tracking.tracker import About, Line, Tracker

FIRST_RETRY_S, LAST_RETRY_S = 10.0, 300.0
"""Pauses before what has failed is tried again: the first, doubled each time up to the last."""
MOST_LINES = 50_000
"""That are kept while a tracker does not take them."""
_GATHERING_S = 1.0  # lines that come meanwhile are written together
_MOST_TOGETHER = 1000
_LONGEST_REASON = 300


class Background:
    """Hands a run's lines to a tracker; what that refuses is kept and tried again until the run ends.

    Parameters
    ----------
    name
        Of the tracker, in messages.
    about
        The run, of which the tracker is given what it has missed.
    warn
        Told of the first failure, and of no other.
    say
        Told in the end of what is not tracked. Both from any thread.
    """

    def __init__(
        self,
        name: str,
        tracker: Tracker,
        about: About,
        warn: Callable[[str], None],
        say: Callable[[str], None],
    ):
        self._name, self._tracker, self._about = name, tracker, about
        self._warn, self._say = warn, say
        self._lines = deque[Line]()
        self._changed = threading.Condition()
        self._ending: tuple[str, Mapping[str, Any]] | None = None
        self._has_begun = self._has_warned = self._is_over = self._is_given_up = False
        self._dropped = 0
        self._thread = threading.Thread(target=self._serve, name=f"tracker {name}", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:  # as many threads as the system allows
            self._is_over = True
            self._warn_once(error)

    def put(self, line: Line) -> None:
        """Have a line written."""
        with self._changed:
            if len(self._lines) < MOST_LINES:
                self._lines.append(line)
            else:
                self._dropped += 1
            self._changed.notify_all()

    def end(self, ending: str, results: Mapping[str, Any], *, patience: float) -> None:
        """Have the rest written, and wait for it so many seconds; what takes longer is given up."""
        with self._changed:
            self._ending = (ending, results)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._is_over, patience)
            self._is_given_up = True
            left, is_over = len(self._lines) + self._dropped, self._is_over
        if left:
            self._say(f"track: {self._name}: {left} lines of metrics.jsonl are not there")
        elif not is_over:
            self._say(f"track: {self._name}: it was not told how the run has ended")

    def _serve(self) -> None:
        run_anywhere()
        pause = FIRST_RETRY_S
        while not self._is_over:
            try:
                self._work()
            except Exception as error:  # whatever the tracker's library may raise
                self._warn_once(error)
                self._has_begun = False
                self._rest(pause)
                pause = min(2 * pause, LAST_RETRY_S)
            else:
                pause = FIRST_RETRY_S
                self._rest(_GATHERING_S)

    def _work(self) -> None:
        """Write what there is, or wait for it; may raise whatever the tracker does."""
        if not self._has_begun:
            self._fill(self._tracker.begin())
            self._has_begun = True
        with self._changed:
            self._changed.wait_for(lambda: self._lines or self._ending)
            lines = list(islice(self._lines, _MOST_TOGETHER))
        if lines:
            self._tracker.write(lines)
            with self._changed:
                for _ in lines:
                    self._lines.popleft()
        elif self._ending is not None:
            self._tracker.end(*self._ending)
            self._finish()

    def _fill(self, first: int) -> None:
        """Write what the tracker has missed."""
        lines = missed(self._about, first)
        while some := list(islice(lines, _MOST_TOGETHER)):
            self._tracker.write(some)

    def _finish(self) -> None:
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def _rest(self, seconds: float) -> None:
        """Wait, but not behind the end of the run: what fails then is given up."""
        with self._changed:
            if self._ending is not None and not self._has_begun:
                self._finish()
            self._changed.wait_for(lambda: self._ending is not None, seconds)

    def _warn_once(self, error: Exception) -> None:
        if not self._has_warned and not self._is_given_up:
            self._has_warned = True
            reason = " ".join(str(error).split()) or type(error).__name__
            self._warn(
                f"track: {self._name}: {shortened(reason, _LONGEST_REASON)}; the run goes on, and what "
                "is not tracked is tried again until it ends"
            )
