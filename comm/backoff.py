"""Back-off of a polling thread: how long to sleep between polls."""

import os
import time

_POLLS = 4  # naps per usual wait: with longer ones links idle, and each poll costs some 50 us of a core
_SHORTEST_NAP_S = 50e-6  # as long as a poll: shorter naps would spend most of a core on polls
_LONGEST_NAP_S = 1e-3
_POLL_S = 1e-3  # a wait polls without naps for so long if the main thread waits too, as it needs no core then


class Backoff:
    """Length of the naps of a polling thread, from the waits it has seen: naps grow as a wait goes on.

    While the main thread waits for a job, the thread polls without naps at first. While the main thread
    computes, it must not: it would take the core from the kernels, and the interpreter's lock from the main
    thread between two kernels.

    Parameters
    ----------
    spare_core
        Whether the thread has a core of its own. Then it never naps while the main thread waits, and takes
        the shortest naps while the main thread computes.
    """

    def __init__(self, *, spare_core: bool = False):
        self._spare_core = spare_core
        self._wait_start = 0.0  # 0: the last poll found something
        self._usual_wait_s = 0.0  # moving average

    def nap_s(self, *, progressed: bool, awaited: bool) -> float:
        """Return how long to sleep before the next poll.

        Parameters
        ----------
        progressed
            Whether the last poll found something to do.
        awaited
            Whether the main thread waits.
        """
        if progressed and not self._wait_start:
            return 0.0
        now = time.perf_counter()
        waited = now - (self._wait_start or now)
        if progressed:
            self._usual_wait_s += (waited - self._usual_wait_s) / _POLLS
            self._wait_start = 0.0
            return 0.0
        self._wait_start = self._wait_start or now
        if self._spare_core:
            return 0.0 if awaited else _SHORTEST_NAP_S
        if awaited and waited < _POLL_S:
            os.sched_yield()  # the awaited rank may need this core
            return 0.0
        return min(max(_SHORTEST_NAP_S, max(waited, self._usual_wait_s) / _POLLS), _LONGEST_NAP_S)
