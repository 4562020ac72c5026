"""Fields of files that anybody may have written: what is not of the kind that is asked for is not there."""

import math
from collections.abc import Mapping
from typing import Any


def number(record: Any, *path: str) -> float | None:
    """Return the finite number at a path of names; None for anything else."""
    value = _at(record, path)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # an integer beyond all floats
        return None


def whole(record: Any, *path: str) -> int | None:
    """Return the whole number at a path of names; None for anything else."""
    value = number(record, *path)
    return int(value) if value is not None and value.is_integer() else None


def text(record: Any, *path: str) -> str | None:
    """Return the text at a path of names; None for anything else."""
    value = _at(record, path)
    return value if isinstance(value, str) else None


def truth(record: Any, *path: str) -> bool | None:
    """Return the true or false at a path of names; None for anything else."""
    value = _at(record, path)
    return value if isinstance(value, bool) else None


def texts(record: Any, *path: str) -> list[str]:
    """Return the texts of the list at a path of names; of anything else none."""
    value = _at(record, path)
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def numbers(record: Any, *path: str) -> list[float]:
    """Return the numbers of the list at a path of names; none if one of them is something else."""
    value = _at(record, path)
    found = [number({"": each}, "") for each in value] if isinstance(value, list) else []
    return [each for each in found if each is not None] if None not in found else []


def table(record: Any, *path: str) -> dict[str, Any]:
    """Return the table at a path of names; an empty one for anything else."""
    value = _at(record, path)
    return value if isinstance(value, dict) else {}


def tables(record: Any, *path: str) -> list[dict[str, Any]]:
    """Return the tables of the list at a path of names; of anything else none."""
    value = _at(record, path)
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _at(record: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        if not isinstance(record, Mapping):
            return None
        record = record.get(name)
    return record
