"""What a tracker notes in a run's folder, so that a run that goes on does so in the same place."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.config.files import read_bytes, write_whole

_FORMAT = 1


def noted(folder: Path, tracker: str, place: str) -> dict[str, Any]:
    """Return what a tracker has noted; empty where it has not, or was sent to another place.

    Raises
    ------
    OSError
        The file cannot be read.
    """
    try:
        found = json.loads(read_bytes(_path(folder, tracker)))
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    is_ours = isinstance(found, dict) and found.get("format") == _FORMAT and found.get("place") == place
    return found if is_ours else {}


def note(folder: Path, tracker: str, place: str, what: Mapping[str, Any]) -> None:
    """Note something in place of what was noted; OSError as of `write_whole`."""
    text = json.dumps({"format": _FORMAT, "place": place, **what}, indent=2)
    write_whole(_path(folder, tracker), text + "\n")


def _path(folder: Path, tracker: str) -> Path:
    """Return a file of the tracker's own: others write at the same time."""
    return folder / f"tracking_{tracker}.json"
