"""What trackers note in a run's folder, so that a run that goes on does so in the same place."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.config.files import read_bytes, write_whole

NOTES = "tracking.json"
_FORMAT = 1


def noted(folder: Path, tracker: str, place: str) -> dict[str, Any]:
    """Return what a tracker has noted; empty where it has not, or was sent to another place.

    Raises
    ------
    OSError
        The file cannot be read.
    """
    found = _read(folder / NOTES).get(tracker)
    return found if isinstance(found, dict) and found.get("place") == place else {}


def note(folder: Path, tracker: str, place: str, what: Mapping[str, Any]) -> None:
    """Note something for one tracker, and keep what others have noted; OSError as of `write_whole`."""
    path = folder / NOTES
    entries = {**_read(path), "format": _FORMAT, tracker: {"place": place, **what}}
    write_whole(path, json.dumps(entries, indent=2) + "\n")


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(read_bytes(path))
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) and found.get("format") == _FORMAT else {}
