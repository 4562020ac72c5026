"""The largest amount of memory that this process has used.

The standard library knows it; psutil does not, except on Windows.
"""

import sys


def peak_resident_bytes() -> int | None:
    """Return the largest resident set so far; None where the system does not report it.

    As in the system's own figures, memory of other ranks that this process has read counts too.
    """
    if sys.platform == "win32":
        return None
    import resource  # noqa: PLC0415 -- Unix only

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
