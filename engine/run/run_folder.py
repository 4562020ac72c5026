"""The folder of a run, which only rank 0 sees: a new one, or the one of the run that goes on."""

import json
import time
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from engine.config.errors import UserError
from engine.config.files import read_bytes, reading, write_whole, writing
from engine.config.paths import expand
from engine.run.folder_lock import FolderLock, lock_folder
from engine.run.kept_checkpoints import FOLDER, remove_newer, sweep

METRICS, RESULTS, RECIPE = "metrics.jsonl", "run.json", "recipe.toml"
FORMAT = 1
"""Of RESULTS, which says it, and of METRICS, as docs/files.md has it; fields may be added."""
RESTARTS = "restarts.jsonl"
"""A line for each time that the launcher has started the run again."""
_LAST_LINES = 10  # of the metrics, of which one is whole and a step's


@dataclass(frozen=True)
class NewFolder:
    """The folder of a run that begins, locked."""

    path: Path
    lock: FolderLock
    is_made: bool
    """It was not there before."""

    def withdraw(self) -> None:
        """Leave things as they were, as the run does not begin; what others have put there stays."""
        if not self.is_made:
            self.lock.release()
            return
        with suppress(OSError):
            self.lock.withdraw()
            self.path.rmdir()


def new_folder(out: str, name: str, recipe: str, *, within: str = "") -> NewFolder:
    """Make and lock the folder `out`; without one runs/<name>-<time>, with -2, -3, ... where that exists.

    Parameters
    ----------
    recipe
        Text of the run's recipe, to be written there.
    within
        Where relative paths begin, if that is not where this process is by now.

    Raises
    ------
    UserError
        It cannot be made, holds a run or another recipe already, or another run writes there.
    """
    if not out:
        folder = unused_folder(name, within)
        return NewFolder(folder, lock_folder(folder, "out"), is_made=True)
    folder = within / expand(out, "out")
    with writing(folder, "out"):
        _check_free(folder, recipe)
        is_made = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
    made = NewFolder(folder, lock_folder(folder, "out"), is_made)
    try:
        _check_free(folder, recipe)  # nor has one begun and ended meanwhile
    except UserError:
        made.lock.release()
        raise
    return made


def _check_free(folder: Path, recipe: str) -> None:
    """Refuse a folder with files that the run would write over, but one where a run has failed at once."""
    for held in (METRICS, RESULTS, FOLDER):
        path = folder / held
        is_left = held != FOLDER and path.is_file() and path.stat().st_size == 0
        if not is_left and (path.exists() or path.is_symlink()):
            raise UserError(
                f"out: {folder} already holds a run's {held}: give another --out, or --resume {folder}"
            )
    with reading(folder / RECIPE, "out"):
        if (folder / RECIPE).exists() and read_bytes(folder / RECIPE) != recipe.encode():
            raise UserError(
                f"out: {folder} already holds a {RECIPE}, which is not written over: give another --out"
            )


def rewind(folder: Path, step: int) -> None:
    """Cut a run's folder back to its state after `step`: what came later will come again."""
    metrics = folder / METRICS
    with writing(folder, "out"):
        sweep(folder)
        remove_newer(folder, step)
        (folder / RESULTS).unlink(missing_ok=True)
        if metrics.exists():
            kept = [line for line in read_bytes(metrics).splitlines() if _is_until(step, line)]
            write_whole(metrics, (line + b"\n" for line in kept))


def loss_before_evaluation(folder: Path, step: int) -> float | None:
    """Return the loss of a step that the metrics have without its evaluation, as the run ended in between."""
    losses = losses_of(folder, step)
    return None if "epoch" in losses else losses.get("step")


def losses_of(folder: Path, step: int) -> dict[str, float | None]:
    """Return the loss of the lines that the metrics have of a step, by kind: "step", "epoch"."""
    path = folder / METRICS
    with reading(path):
        lines = read_bytes(path).splitlines() if path.exists() else []
    of_step = [json.loads(line) for line in lines if _is_until(step, line) and not _is_until(step - 1, line)]
    return {str(record.get("kind")): record.get("loss") for record in of_step}


def holds_a_run(folder: Path) -> bool:
    """Say whether a folder has files of a run that has begun."""
    return any((folder / name).exists() for name in (METRICS, RESULTS, FOLDER))


def last_step(folder: Path) -> int:
    """Return the last step in a run's metrics; 0 where it has done none."""
    path = folder / METRICS
    with reading(path):
        lines = read_bytes(path).splitlines()[-_LAST_LINES:] if path.exists() else []
    steps = []
    for line in lines:
        with suppress(ValueError, KeyError, TypeError, OverflowError, RecursionError):
            steps.append(int(json.loads(line)["step"]))
    return max(steps, default=0)


def restarts_of(folder: Path) -> int:
    """Return how often the launcher has started a run again."""
    path = folder / RESTARTS
    with reading(path):
        return len(read_bytes(path).splitlines()) if path.exists() else 0


def unused_folder(name: str, within: str = "") -> Path:
    """Make the folder runs/<name>-<time>, with -2, -3, ... where that exists, and return it."""
    wanted = Path(within) / "runs" / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}"
    with writing(wanted, "out"):
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
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return False
