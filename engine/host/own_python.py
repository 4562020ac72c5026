"""The Python that runs this process, to start others with."""

import sys
from pathlib import Path


def own_python() -> list[str]:
    """Return this Python's command, to be followed by "-m" and a module of ours.

    Nothing in the current folder is imported by accident, unless it is the checkout that we lie in.
    """
    return [sys.executable, *(("-P",) if sys.flags.safe_path or not _is_checkout() else ())]


def _is_checkout() -> bool:
    """Say whether the current folder is the one that this package lies in."""
    try:
        return Path.cwd() == Path(__file__).parents[2]
    except OSError:  # it has been removed
        return False
