"""A thread that writes to the disk while training goes on: one thing after the other, in the order given.

What a disk refuses (it is full, its folder is away) is kept and tried again, now and then and as soon as
somebody waits for it: a warning, and no reason to end. Anything else that fails is for the run to end with.
"""

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from engine.host.unpinned import run_anywhere

FIRST_RETRY_S, LAST_RETRY_S = 10.0, 300.0
"""Pauses before a failed write is tried again: the first, doubled each time up to the last."""


@dataclass(frozen=True)
class Write:
    """Something to write."""

    name: str
    """As a warning says it: "the checkpoint of step 12"."""
    work: Callable[[], None]
    is_replaceable: bool = False
    """Whether it is given up, if it has failed, when something newer is to be written."""


class AbandonedError(Exception):
    """The write is cut short: the process ends."""


class Writer:
    """Does tasks on a thread of its own; where the system gives none, on the one that hands them over.

    Parameters
    ----------
    warn
        Told once of a disk that fails, until it works again; then `say`. Both from any thread.
    """

    def __init__(self, warn: Callable[[str], None], say: Callable[[str], None]):
        self._warn, self._say = warn, say
        self._tasks = deque[Write]()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._is_refused = False  # no thread can be had
        self._busy = self._closed = False
        self._refusal: OSError | None = None  # of the first task, since its last attempt
        self._attempts = self._hurried = 0  # that have ended, and up to which none waits for its time
        self._again_at, self._pause = 0.0, FIRST_RETRY_S
        self._warned = set[str]()
        self.is_abandoned = False
        self.failure: BaseException | None = None
        """What ends the run."""

    def put(self, task: Write) -> None:
        """Have something written after all that was put before."""
        with self._changed:
            self._tasks.append(task)
            self._start()
            self._changed.notify_all()
        if self._thread is None:
            self._work_off()

    def make_room(self) -> None:
        """Wait until nothing is being written; give up what has failed and will be replaced."""
        with self._changed:
            self._changed.wait_for(lambda: not self._busy and (self._refusal is not None or not self._tasks))
            first = self._tasks[0] if self._tasks else None
            self._tasks = deque(task for task in self._tasks if not task.is_replaceable)
            if first is not None and first.is_replaceable:
                self._refusal = None

    def drain(self) -> OSError | None:
        """Wait until all is written; return what the disk has refused when it was tried once more."""
        if self._thread is None:
            self._work_off()
            return self._refusal
        with self._changed:
            before = self._attempts + self._busy  # an attempt that is under way was begun before
            self._hurried = before + 1
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: not self._tasks or (self._refusal is not None and self._attempts > before)
            )
            return self._refusal

    def close(self, *, abandon: bool = False) -> None:
        """End the thread, behind the attempt that it is in; with `abandon` at its next tensor."""
        self.is_abandoned |= abandon
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _start(self) -> None:
        if self._thread is None and not self._is_refused:
            thread = threading.Thread(target=self._serve, name="checkpoints", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # as many threads as the system allows
                self._is_refused = True
            else:
                self._thread = thread

    def _serve(self) -> None:
        run_anywhere()
        while True:
            with self._changed:
                while not self._closed and not self._is_due():
                    self._changed.wait(self._wait_s())
                if self._closed:
                    return
                task, self._busy = self._tasks[0], True
            self._attempt(task)

    def _is_due(self) -> bool:
        waits = self._refusal is not None and self._attempts >= self._hurried
        return bool(self._tasks) and (not waits or time.monotonic() >= self._again_at)

    def _wait_s(self) -> float | None:
        return max(0.0, self._again_at - time.monotonic()) if self._tasks else None

    def _work_off(self) -> None:
        """Do all tasks on this thread, until one fails."""
        self._refusal = None
        while self._tasks and self._refusal is None:
            self._attempt(self._tasks[0])

    def _attempt(self, task: Write) -> None:
        refusal, failure = None, None
        try:
            task.work()
        except OSError as error:
            refusal = error
        except BaseException as error:  # for the run to end with, on its own thread
            failure = error
        if failure is None:
            self._tell(task, refusal)
        with self._changed:
            self._busy, self._refusal = False, refusal
            self._attempts += 1
            if refusal is not None:
                self._again_at, self._pause = (
                    time.monotonic() + self._pause,
                    min(2 * self._pause, LAST_RETRY_S),
                )
            elif failure is not None:
                self.failure = failure
                self._tasks.clear()
            else:
                self._tasks.popleft()
                self._pause = FIRST_RETRY_S
            self._changed.notify_all()

    def _tell(self, task: Write, refusal: OSError | None) -> None:
        """Warn of a disk that fails, once for each reason, and say when it works again."""
        if refusal is None:
            if self._warned:
                self._say(f"{task.name} is written, after all")
            self._warned.clear()
            return
        where = f"{refusal.filename}: " if refusal.filename else ""
        reason = f"{where}{refusal.strerror or refusal}"
        if (refusal.strerror or reason) not in self._warned:
            self._warned.add(refusal.strerror or reason)
            self._warn(f"{task.name} could not be written: {reason}; the run goes on, and it is tried again")
