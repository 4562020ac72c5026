"""numba's cache on disk, with turns: of several processes that miss a function, one compiles it.

Ranks that start together want the same kernels at the same time. Whoever misses one takes the function's file
lock; the others wait, and then find it in the cache. numba writes each file at once as a whole, but two
processes that add to one function's index at the same time lose an entry: the lock prevents that too.
"""

import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numba.core.caching import FunctionCache

if TYPE_CHECKING:
    from filelock import BaseFileLock

PATIENCE_S = 60.0  # a compilation takes a few seconds; who has waited so long compiles it too
_POLL_S = 0.01


class SharedCache(FunctionCache):
    """The cache of one function.

    A process holds the locks of a function and of helpers that it calls, in the order of the calls; no
    function calls itself, so processes do not wait for each other in a circle. A lock ends with its process.
    Where files cannot be locked, everybody compiles.
    """

    def __init__(self, function: Any):
        super().__init__(function)
        name = f"{function.__module__}.{function.__qualname__}-{function.__code__.co_firstlineno}"
        self._lock_path = Path(self.cache_path) / (re.sub(r"[^.\w-]", "", name) + ".lock")
        self._lock: BaseFileLock | None = None

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return what is cached; None if this process is to compile and `save_overload` it."""
        found = super().load_overload(sig, target_context)
        if found is not None or self._lock is not None:
            return found
        self._lock = _locked(self._lock_path)
        if self._lock is not None:
            found = super().load_overload(sig, target_context)  # by whom we have waited for
            if found is not None:
                self._release()
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        """Write what has been compiled, and let those who wait for it go on."""
        try:
            super().save_overload(sig, data)
        finally:
            self._release()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def _locked(path: Path) -> "BaseFileLock | None":
    """Return a lock that is held; None where that is not possible, or not in time."""
    from filelock import FileLock, Timeout  # noqa: PLC0415 -- for who compiles only: a warm start must be quick

    # Not thread_local: whoever saves a function releases its lock, on whichever thread.
    lock = FileLock(path, timeout=PATIENCE_S, poll_interval=_POLL_S, thread_local=False)
    with suppress(OSError, NotImplementedError, Timeout):  # not writable, or a file system without locks
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        return lock
    return None
