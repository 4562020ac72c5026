"""What each rank says of itself when nothing moves any more, and the end of a run that stays so.

A thread beside the main one looks at what the rank counts anyway: passes of layers, waits, jobs. What it says
is for whoever has to find the rank, the link, the disk or the library that is stuck.
"""

import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from comm import failure, terminal
from comm.comm_thread import THREAD_NAME, CommandQueue
from comm.communicator import Communicator
from engine.profile.recorder import Recorder
from engine.profile.step_clock import Lap, median

SAID_AFTER_S = 60.0
"""Least time without a pass, a wait or a job that has ended before a rank speaks."""
STEPS = 20.0
"""As many of the run's steps (their median) are waited for, if that is longer."""

_OURS = Path(__file__).parents[2]


class StallWatch:
    """Looks whether this rank gets on in its training loop.

    Parameters
    ----------
    laps
        Of the run's steps so far.
    step
        Returns how many steps are done.
    end_after
        Seconds after which the run is ended; 0: never.
    end
        Ends the process on all ranks, with a message.
    """

    def __init__(
        self,
        world: Communicator,
        recorder: Recorder,
        queue: CommandQueue,
        *,
        laps: list[Lap],
        step: Callable[[], int],
        end_after: float,
        say: Callable[[str], None] = terminal.say,
        end: Callable[[Communicator, str], object] = lambda world, message: failure.fail(world, message, 1),
    ):
        self._world, self._recorder, self._queue = world, recorder, queue
        self._laps, self._step, self._end_after = laps, step, end_after
        self._said_after = min(SAID_AFTER_S, end_after / 2) if end_after > 0 else SAID_AFTER_S
        self._say, self._end = say, end
        self._main = threading.get_ident()
        self._seen: tuple[Any, ...] | None = None
        self._since, self._said = 0.0, False

    def look(self, now: float) -> None:
        """Speak once nothing has moved for long, and end the run after `end_after`."""
        seen = self._what_moves()
        if seen != self._seen:
            if self._said:
                self._say(f"rank {self._world.rank} gets on again after {now - self._since:.0f} s")
            self._seen, self._since, self._said = seen, now, False
            return
        stalled = now - self._since
        if not self._said and stalled >= self._said_after and stalled >= STEPS * self._usual_step():
            self._said = True
            self._say(self.report(stalled))
        if self._said and 0 < self._end_after <= stalled:
            self._end(
                self._world,
                f"rank {self._world.rank}: nothing has moved for {stalled:.0f} s; what ranks said of "
                "themselves is above; --resume goes on from the newest checkpoint, "
                "--stalled-after 0 waits for ever",
            )

    def _what_moves(self) -> tuple[Any, ...]:
        queue = self._queue
        return (
            self._step(),
            self._recorder.passes,
            queue.awaited,
            queue.blocked_seconds,
            self._world.waits.count,
            self._world.waits.is_one,
        )

    def _usual_step(self) -> float:
        usual = median(self._laps)
        return usual.step if usual is not None else 0.0

    def report(self, stalled: float) -> str:
        """Return what is known of this rank, in one line."""
        rank, queue, step = self._world.rank, self._queue, self._step() + 1
        parts = [f"rank {rank} on {socket.gethostname()}: nothing moves for {stalled:.0f} s in step {step}"]
        if self._recorder.last_pass is not None:
            node, name = self._recorder.last_pass
            parts.append(f"the last pass was {name} of {node}")
        if queue.awaited is not None:
            parts.append(f"it waits for {queue.awaited}")
        elif self._world.waits.is_one:
            parts.append("it waits for an agreement of all ranks")
        for job in queue.pending()[:1]:
            if job.partners:
                which = "ranks" if len(job.partners) > 1 else "rank"
                parts.append(
                    f"{job.name} exchanges messages with {which} {', '.join(map(str, job.partners))}"
                )
        frames = sys._current_frames()
        threads = {thread.name: thread.ident for thread in threading.enumerate()}
        for name, number in (("main", self._main), ("communication", threads.get(THREAD_NAME))):
            frame = frames.get(number) if number is not None else None
            if frame is not None:
                parts.append(f"the {name} thread is at {_place(frame)}")
        return "; ".join(parts)


def _place(frame: FrameType) -> str:
    """Return the innermost line of ours that a thread is in, and what it calls there, if anything."""
    inner, ours = frame, frame
    while not Path(ours.f_code.co_filename).is_relative_to(_OURS):
        if ours.f_back is None:
            ours = inner
            break
        ours = ours.f_back
    path = Path(ours.f_code.co_filename)
    shown = path.relative_to(_OURS) if path.is_relative_to(_OURS) else path
    place = f"{shown}:{ours.f_lineno} ({ours.f_code.co_qualname})"
    return place if ours is inner else f"{place}, in {inner.f_code.co_qualname}"
