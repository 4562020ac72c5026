"""Whether this machine's clock is kept right."""

import ctypes
import sys
from collections.abc import Iterator

from engine.doctor.finding import NOTE, OK, Finding

_TIMEX_BYTES = 512  # more than any system's `struct timex`; all zero, it asks and changes nothing
_NOT_SYNCHRONISED = 5  # TIME_ERROR


def clock() -> Iterator[Finding]:
    """Say whether the system calls its clock synchronised."""
    state = _state()
    if state == _NOT_SYNCHRONISED:
        yield Finding(
            "clock",
            NOTE,
            "not synchronised, as far as the system knows: times in logs of several hosts may not agree; "
            "training does not depend on it",
            "chrony or systemd-timesyncd keeps it right",
        )
    elif state is None:
        yield Finding("clock", OK, "the system does not say whether it is synchronised")
    else:
        yield Finding("clock", OK, "synchronised")


def _state() -> int | None:
    """Return the answer of adjtimex; None where there is none."""
    if sys.platform != "linux":
        return None
    adjtimex = getattr(ctypes.CDLL(None), "adjtimex", None)
    answer = -1 if adjtimex is None else int(adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES)))
    return None if answer < 0 else answer
