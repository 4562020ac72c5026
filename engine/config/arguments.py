"""Arguments of functions that users call: of the right type and range, or one line that says what came."""

import math
import os
from numbers import Integral
from pathlib import Path

from engine.config.errors import UserError


def check_whole(name: str, got: object, least: int, most: float = math.inf) -> None:
    """Raise UserError unless a value is a whole number in a range."""
    if isinstance(got, bool) or not isinstance(got, Integral):
        raise UserError(f"{name}: got {got!r}; must be a whole number")
    if not least <= int(got) <= most:
        allowed = f"at least {least}" if most == math.inf else f"from {least} to {most}"
        raise UserError(f"{name}: got {got}; must be {allowed}")


def check_text(name: str, got: object) -> None:
    """Raise UserError unless a value is a text."""
    if not isinstance(got, str):
        raise UserError(f"{name}: got {got!r}; must be a text")


def as_path(name: str, got: object) -> Path:
    """Return a path that was given as one or as a text; UserError for anything else."""
    if not isinstance(got, str | os.PathLike) or not os.fspath(got):
        raise UserError(f"{name}: got {got!r}; must be a path")
    return Path(got)
