"""The most memory that this process has had."""

import sys


def peak_resident_bytes() -> int | None:
    """Return the largest resident set so far; None where the system does not tell.

    It counts what this process has read in the memory of other ranks of its host, as the system does.
    """
    if sys.platform == "win32":
        return None
    import resource  # noqa: PLC0415 -- Unix only

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
