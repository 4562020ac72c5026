"""numba's cache on disk, with turns: of several processes that miss a function, one compiles it.

Ranks that start together want the same kernels at the same time. Whoever misses one takes the function's file
lock; the others wait, and then find it in the cache. numba writes each file at once as a whole, but two
processes that add to one function's index at the same time lose an entry: the lock prevents that too.

The cache saves time and nothing else: what cannot be read, is damaged or cannot be written is compiled, with
one warning.
"""

import hashlib
import logging
import os
import pickle
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from numba.core.caching import (
    CompileResultCacheImpl,
    FunctionCache,
    IndexDataCacheFile,
    UserProvidedCacheLocator,
)

from layers.kernels.loading import rebuild

if TYPE_CHECKING:
    from filelock import BaseFileLock

PATIENCE_S = 60.0  # a compilation takes a few seconds; who has waited so long compiles it too
_POLL_S = 0.01
_DIGEST_BYTES = 16

LOG = logging.getLogger("lockstep.kernels")
"""Gets warnings about the cache and the threads; by default Python prints them to stderr."""


_said = set[str]()


class DamagedError(ValueError):
    """A file of the cache has other content than was written."""


class SharedCache(FunctionCache):
    """The cache of one function.

    A process holds the locks of a function and of helpers that it calls, in the order of the calls; no
    function calls itself, so processes do not wait for each other in a circle. A lock ends with its process.
    Where files cannot be locked, everybody compiles.

    Parameters
    ----------
    folder
        Of this version of the kernels.
    on_open
        Called before something is written into the folder; raises OSError where that is not possible.

    Raises
    ------
    OSError
        There is no source file of the function to compare with.
    """

    on_miss: ClassVar[Callable[[], None] | None] = None
    """Called before a function is compiled, here or by a process that is waited for; for all functions."""

    def __init__(self, function: Any, folder: Path, on_open: Callable[[], None]):
        self._folder, self._on_open = folder, on_open
        self._impl_class: Any = partial(_Results, folder=folder)
        super().__init__(function)
        self._cache_file = _CheckedFiles(
            self.cache_path, self._impl.filename_base, self._impl.locator.get_source_stamp()
        )
        name = f"{function.__module__}.{function.__qualname__}-{function.__code__.co_firstlineno}"
        self._lock_path = Path(self.cache_path) / (re.sub(r"[^.\w-]", "", name) + ".lock")
        self._lock: BaseFileLock | None = None
        self._is_ours = Path(function.__code__.co_filename).parent == Path(__file__).parent

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return what is cached; None if this process is to compile and `save_overload` it."""
        found = self._load(sig, target_context)
        if found is not None or self._lock is not None:
            return found
        note_miss()
        self._lock = _locked(self._lock_path)
        if self._lock is not None:
            found = self._load(sig, target_context)  # by whom we have waited for
            if found is not None:
                self._release()
        return found

    def _load(self, sig: Any, target_context: Any) -> Any:
        try:
            if not self._is_ours:  # it may call whatever numba's libraries offer
                target_context.refresh()
            return self._load_overload(sig, target_context)
        except DamagedError as error:
            warn_once("damaged", f"{self._folder}: {error}; what is damaged is compiled again")
        except OSError as error:
            warn_once("unusable", _unusable(self._folder, error))
        except Exception as error:  # whole, and yet numba can make nothing of it
            warn_once("damaged", f"{self._folder}: {error!r}; what cannot be read is compiled again")
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Write what has been compiled, and let those who wait for it go on."""
        try:
            self._on_open()
            super().save_overload(sig, data)
        except OSError as error:
            warn_once("unusable", _unusable(self._folder, error))
        finally:
            self._release()

    def _release(self) -> None:
        if self._lock is not None:
            with suppress(OSError):
                self._lock.release()
            self._lock = None


class _Locator(UserProvidedCacheLocator):
    """Files of a function in our folder. numba's settings are left to the user's own functions."""

    def __init__(self, function: Any, source: str, folder: Path):
        self._py_file, self._lineno = source, function.__code__.co_firstlineno
        self._cache_path = str(folder / self.get_suitable_cache_subpath(source))

    def ensure_cache_path(self) -> None:
        Path(self._cache_path).mkdir(parents=True, exist_ok=True)


class _Results(CompileResultCacheImpl):
    def __init__(self, function: Any, *, folder: Path):
        source = function.__code__.co_filename
        self._locator, self._lineno = _Locator(function, source, folder), function.__code__.co_firstlineno
        self._filename_base = self.get_filename_base(
            f"{Path(source).stem}.{function.__qualname__}", getattr(sys, "abiflags", "")
        )

    def rebuild(self, target_context: Any, payload: Any) -> Any:
        return rebuild(target_context, *payload)


class _CheckedFiles(IndexDataCacheFile):
    """The files of one function, each behind a digest of itself: damaged machine code is never run."""

    def _load_index(self) -> Any:
        try:
            stamp, overloads = self._read(self._index_path)
        except FileNotFoundError:
            return {}
        return overloads if stamp == self._source_stamp else {}

    def _save_index(self, overloads: Any) -> None:
        self._write(self._index_path, (self._source_stamp, overloads))

    def load(self, key: Any) -> Any:
        name = self._load_index().get(key)
        if name is None:
            return None
        try:
            stored, data = self._read(self._data_path(name))
        except FileNotFoundError:  # the disk was full, or somebody has emptied the cache
            return None
        return data if stored == key else None  # a new index counts its files from 1 again

    def save(self, key: Any, data: Any) -> None:
        try:
            self._load_index()
        except (DamagedError, OSError):
            self.flush()
        super().save(key, (key, data))

    def _save_data(self, name: str, data: Any) -> None:
        self._write(self._data_path(name), data)

    def _read(self, path: str) -> Any:
        content = Path(path).read_bytes()
        if content[:_DIGEST_BYTES] != _digest(content[_DIGEST_BYTES:]):
            raise DamagedError(f"{os.path.basename(path)} is damaged")  # noqa: PTH119 -- a text of numba's
        return pickle.loads(content[_DIGEST_BYTES:])

    def _write(self, path: str, value: Any) -> None:
        content = self._dump(value)
        with self._open_for_write(path) as file:
            file.write(_digest(content) + content)


def note_miss() -> None:
    """Say that a function is about to be compiled, to whoever wants to know."""
    if SharedCache.on_miss is not None:
        SharedCache.on_miss()


def warn_once(kind: str, message: str) -> None:
    """Log a warning about the cache, if it is the first of its kind in this process."""
    if kind not in _said:
        _said.add(kind)
        with suppress(Exception):  # nobody can be told
            LOG.warning("warning: kernel cache %s", message)


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest()


def _unusable(folder: Path, error: OSError) -> str:
    return (
        f"{folder}: {error.strerror or error}; kernels are compiled at every start "
        "(NUMBA_CACHE_DIR moves the cache)"
    )


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
