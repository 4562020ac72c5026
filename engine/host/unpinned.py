"""The cores that this process was given, whatever its threads have been pinned to since."""

import os
import sys

GIVEN = frozenset(os.sched_getaffinity(0) if sys.platform == "linux" else range(os.cpu_count() or 1))


def run_anywhere() -> None:
    """Let the calling thread run on all of them: a thread inherits the cores of the one that starts it."""
    if sys.platform == "linux":
        os.sched_setaffinity(0, GIVEN)
