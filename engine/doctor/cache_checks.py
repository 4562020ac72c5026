"""The folder of compiled kernels."""

import shutil
import tempfile
from collections.abc import Iterator

from engine.config.wording import counted
from engine.doctor.finding import NOTE, OK, PROBLEM, Finding
from engine.doctor.memory_checks import size

_LEAST_FREE = 500e6  # a version takes up to 200 MB
_EACH_START = "kernels are compiled at every start, which takes up to half a minute"
_MEND = "set NUMBA_CACHE_DIR to a folder that can be written, on a local disk"


def kernel_cache() -> Iterator[Finding]:
    """Say where compiled kernels are kept, and whether they can be."""
    from layers.kernels.cache_folder import base_folder, versions  # noqa: PLC0415 -- imports numba

    base = base_folder()
    if base is None:
        yield Finding("kernel cache", PROBLEM, f"no folder can be written: {_EACH_START}", _MEND)
        return
    found = versions(base)
    text = f"{base}: {counted(len(found), 'version')}, {size(sum(version.bytes for version in found))}"
    try:
        existing = next(each for each in (base, *base.parents) if each.exists())
        with tempfile.TemporaryFile(dir=existing):
            free = shutil.disk_usage(existing).free
    except OSError as error:
        yield Finding("kernel cache", PROBLEM, f"{base}: {error.strerror}: {_EACH_START}", _MEND)
        return
    if free < _LEAST_FREE:
        yield Finding(
            "kernel cache", NOTE, f"{text}; {size(free)} free", "lockstep cache --clear, or make room"
        )
    else:
        yield Finding("kernel cache", OK, text)
