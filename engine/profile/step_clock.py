"""Measure the steps of this rank one by one."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from comm.comm_thread import CommandQueue
from engine.profile.recorder import Recorder, warm_steps


@dataclass(frozen=True)
class Lap:
    """Seconds of one step: the whole, and what it waited for communication and for data."""

    step: float
    exposed_communication: float
    """Main thread held up by the queue of jobs. Updates of weights are among them: with overlap off, they are
    all in here, and on one rank nothing else is."""
    data_wait: float


class StepClock:
    """Measure each step from the end of the one before to its own end.

    Parameters
    ----------
    data_wait_seconds
        Returns how long the main thread has waited for data since the run began.
    """

    def __init__(self, queue: CommandQueue, data_wait_seconds: Callable[[], float], recorder: Recorder):
        self._queue, self._data_wait_seconds, self._recorder = queue, data_wait_seconds, recorder
        self.restart()

    def restart(self) -> None:
        """Begin a lap now: what came before belongs to no step."""
        self._recorder.begin_step()
        self._start_now()

    def lap(self, number: int) -> Lap:
        """End the lap of step `number` and begin the next."""
        start, blocked, waited = self._start, self._blocked, self._waited
        self._start_now()
        self._recorder.end_step(number, start, self._start)
        return Lap(self._start - start, self._blocked - blocked, self._waited - waited)

    def _start_now(self) -> None:
        self._start = time.perf_counter()
        self._blocked, self._waited = self._queue.blocked_seconds, self._data_wait_seconds()


def median(laps: Sequence[Lap]) -> Lap | None:
    """Return the medians of the steps after the first few; None without a step."""
    steady = laps[warm_steps(len(laps)) :]
    if not steady:
        return None
    return Lap(
        statistics.median(lap.step for lap in steady),
        statistics.median(lap.exposed_communication for lap in steady),
        statistics.median(lap.data_wait for lap in steady),
    )
