"""The folder of a run, which only rank 0 sees: a new one, or that of the run which goes on."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from engine.config.errors import UserError
from engine.config.paths import expand
from engine.run.checkpoint import FOLDER, remove_newer

METRICS, RESULTS = "metrics.jsonl", "run.json"


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn what fails while a run's folder is written into a UserError: a full disk, a missing permission."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"out: {error.filename or folder}: cannot be written: {error.strerror or error}"
        ) from error


def new_folder(out: str, name: str) -> Path:
    """Make the folder that the user wants, or runs/<name>-<time>, with -2, -3, ... where that exists.

    Raises
    ------
    UserError
        It cannot be made, or holds a run already.
    """
    if not out:
        return _unused(Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}")
    folder = expand(out, "out")
    with writing(folder):
        for held in (METRICS, RESULTS, FOLDER):
            if (folder / held).exists():
                raise UserError(
                    f"out: {folder} already holds a run's {held}: give another --out, or --resume {folder}"
                )
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def rewind(folder: Path, step: int) -> None:
    """Make a run's folder what it was after `step`: what came later will come again."""
    metrics = folder / METRICS
    with writing(folder):
        remove_newer(folder, step)
        (folder / RESULTS).unlink(missing_ok=True)
        if metrics.exists():
            kept = [line for line in metrics.read_bytes().splitlines() if _is_until(step, line)]
            unfinished = folder / f"{METRICS}.unfinished"
            unfinished.write_bytes(b"".join(line + b"\n" for line in kept))
            unfinished.rename(metrics)


def _unused(wanted: Path) -> Path:
    with writing(wanted):
        wanted.parent.mkdir(exist_ok=True)
        for number in count(1):
            folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
            try:
                folder.mkdir()
            except FileExistsError:
                continue
            break
    return folder


def _is_until(step: int, line: bytes) -> bool:
    """Say whether a line of the metrics is whole, and of a step up to this one."""
    try:
        return int(json.loads(line)["step"]) <= step
    except (ValueError, KeyError, TypeError):
        return False
