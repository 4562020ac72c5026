"""The folder of a run, which only rank 0 sees: a new one, or the one of the run that goes on."""

import json
import time
from itertools import count
from pathlib import Path

from engine.config.errors import UserError
from engine.config.files import write_whole, writing
from engine.config.paths import expand
from engine.run.kept_checkpoints import FOLDER, remove_newer, sweep

METRICS, RESULTS, RECIPE = "metrics.jsonl", "run.json", "recipe.toml"


def new_folder(out: str, name: str) -> Path:
    """Make the folder `out`, or, without one, runs/<name>-<time>, with -2, -3, ... where that exists.

    Raises
    ------
    UserError
        It cannot be made, or holds a run already.
    """
    if not out:
        return _unused(Path("runs") / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}")
    folder = expand(out, "out")
    with writing(folder, "out"):
        for held in (METRICS, RESULTS, FOLDER):
            if (folder / held).exists():
                raise UserError(
                    f"out: {folder} already holds a run's {held}: give another --out, or --resume {folder}"
                )
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def rewind(folder: Path, step: int) -> None:
    """Cut a run's folder back to its state after `step`: what came later will come again."""
    metrics = folder / METRICS
    with writing(folder, "out"):
        sweep(folder)
        remove_newer(folder, step)
        (folder / RESULTS).unlink(missing_ok=True)
        if metrics.exists():
            kept = [line for line in metrics.read_bytes().splitlines() if _is_until(step, line)]
            write_whole(metrics, (line + b"\n" for line in kept))


def _unused(wanted: Path) -> Path:
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
    except (ValueError, KeyError, TypeError):
        return False
