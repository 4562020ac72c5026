"""The checkpoints that a run's folder keeps: their names, and the removal of those that are too many.

Only names that the engine makes are looked at, and in a checkpoint's folder only the files that it wrote:
what a user puts beside them, or inside, stays.
"""

import json
import re
from contextlib import suppress
from pathlib import Path

from engine.config.files import UNFINISHED, read_bytes, write_whole
from engine.run.best import Best

FOLDER = "checkpoints"
BEST = "best.json"
"""Beside the checkpoints: which of them did best on the test set, and how well."""
MODEL, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"
_FORMAT = 1  # of BEST
_FILES = (MODEL, OPTIMIZER, STATE)
_FORMER_METRIC = "test_accuracy"
"""The only one that earlier versions knew, whose value they wrote under this name."""

REPLACED, REMOVED = ".replaced", ".removed"
"""Endings of a checkpoint that a new one of its step takes the place of, and of one that is being removed."""

_NAME = re.compile(r"step-([0-9]{8}|[1-9][0-9]{8,})")


def checkpoint_folder(run: Path, step: int) -> Path:
    """Return the folder of a step's checkpoint."""
    return run / FOLDER / f"step-{step:08d}"


def step_of(checkpoint: Path) -> int:
    """Return the step of a checkpoint's folder."""
    return int(checkpoint.with_suffix("").name.removeprefix("step-"))


def named_step(path: Path) -> int | None:
    """Return the step that a folder is named after; None for a name that the engine does not make."""
    return step_of(path) if _NAME.fullmatch(path.name.removesuffix(REPLACED)) else None


def checkpoints_of(run: Path) -> list[Path]:
    """Return the checkpoints of a run, whole or damaged, the newest last.

    One that was being replaced when the machine failed is still called so, and is whole.
    """
    named = [path for path in _ours(run, "") if any((path / name).exists() for name in _FILES)]
    steps = {step_of(path) for path in named}
    replaced = [path for path in _ours(run, REPLACED) if (path / STATE).exists()]
    waiting = [path for path in replaced if step_of(path) not in steps]
    return sorted([*named, *waiting], key=step_of)


def sweep(run: Path) -> None:
    """Finish what a run that was killed while it saved has left: half-written, half-removed folders."""
    for path in checkpoints_of(run):
        (path / f"{STATE}{UNFINISHED}").unlink(missing_ok=True)
        if path.suffix == REPLACED:
            path.rename(path.with_suffix(""))
    for ending in (UNFINISHED, REPLACED, REMOVED):
        for path in _ours(run, ending):
            _delete(path)


def remove(checkpoint: Path) -> None:
    """Remove a checkpoint; one that is removed in part, as the machine fails, is none any more."""
    removed = checkpoint.with_suffix(REMOVED)
    checkpoint.rename(removed)
    _delete(removed)
    if removed.exists():  # somebody has put something into it
        removed.rename(checkpoint)


def remove_newer(run: Path, step: int) -> None:
    """Remove the checkpoints of a run that were made after `step`."""
    best = best_of(run)
    if best is not None and best.step > step:
        (run / FOLDER / BEST).unlink()
    for checkpoint in reversed(checkpoints_of(run)):
        if step_of(checkpoint) > step:
            remove(checkpoint)


def prune(run: Path, newest: Path, keep: int) -> None:
    """Remove all checkpoints but `newest`, which was just written, the newest others, and the best one."""
    best = best_of(run)
    protected = {newest} if best is None else {newest, checkpoint_folder(run, best.step)}
    others = [path for path in checkpoints_of(run) if path not in protected]
    for old in others[: max(0, len(others) - (keep - 1))]:
        with suppress(OSError):  # it costs room, not the run
            remove(old)


def note_best(run: Path, best: Best) -> None:
    """Note that the checkpoint of a step did best on the test set, so that it is kept."""
    noted = {"format": _FORMAT, "metric": best.metric, "value": best.value, "step": best.step}
    write_whole(run / FOLDER / BEST, json.dumps(noted) + "\n")


def best_of(run: Path) -> Best | None:
    """Return what did best on the test set of a run's checkpoints; None where none is noted, or left."""
    try:
        noted = json.loads(read_bytes(run / FOLDER / BEST))
        metric = str(noted.get("metric", _FORMER_METRIC))
        value, step = float(noted.get("value", noted.get(_FORMER_METRIC))), int(noted["step"])
        is_there = (checkpoint_folder(run, step) / STATE).exists()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    return Best(metric, value, step, evaluated=step) if is_there else None


def _ours(run: Path, ending: str) -> list[Path]:
    """Return the folders of a run's checkpoints whose names the engine made, with this ending."""
    found = (run / FOLDER).glob(f"step-*{ending}")
    return [path for path in found if _NAME.fullmatch(path.name.removesuffix(ending)) and path.is_dir()]


def _delete(folder: Path) -> None:
    """Delete a checkpoint's files, and its folder if nothing else is in it."""
    if folder.is_symlink():
        folder.unlink()
        return
    for name in (*_FILES, f"{STATE}{UNFINISHED}"):
        (folder / name).unlink(missing_ok=True)
    with suppress(OSError):  # not empty
        folder.rmdir()
