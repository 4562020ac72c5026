"""Let threads run on all cores of the process, whatever the thread that starts them is pinned to.

The cores are read when this module is imported: every pinned thread is pinned by `layers.kernels.threads`,
long after the imports, and the system keeps no record of the mask that a process began with. A call that has
to be made before all others could be forgotten; an import cannot.
"""

import os
import sys

INITIAL_CORES = frozenset(os.sched_getaffinity(0) if sys.platform == "linux" else range(os.cpu_count() or 1))


def run_anywhere() -> None:
    """Unpin the calling thread, which has inherited the cores of the thread that started it."""
    if sys.platform == "linux":
        os.sched_setaffinity(0, INITIAL_CORES)
