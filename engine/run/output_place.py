"""Files that a command may write: none that a run needs, and none that the command itself reads."""

from collections.abc import Iterable
from pathlib import Path

from engine.config.errors import UserError
from engine.config.files import check_place
from engine.run.kept_checkpoints import BEST, FOLDER, MODEL, OPTIMIZER, STATE
from engine.run.run_folder import METRICS, RECIPE, RESULTS


def check_output(path: Path, what: str = "", *, overwrite: bool, reads: Iterable[Path] = ()) -> None:
    """Raise UserError where `check_place` does, or where the only copy of something would be lost.

    Parameters
    ----------
    what
        The option that named it: "out".
    overwrite
        What is there may be replaced, but not the files of a run or checkpoint, and not what is read.
    reads
        Files that the command reads.
    """
    where = f"{what}: {path}" if what else str(path)
    if _is_of_a_run(path):
        raise UserError(f"{where}: is a file of a run, which no other takes the place of; give another name")
    if path.exists() and any(_is_same(path, each) for each in reads):
        raise UserError(f"{where}: is what is read here, and is not written over; give another name")
    check_place(path, what, overwrite=overwrite)


def _is_of_a_run(path: Path) -> bool:
    """Say whether a run or a checkpoint has a file of this name in this folder, now or when it is whole."""
    folder = path.resolve().parent
    beside = {STATE: (MODEL, OPTIMIZER, STATE), RECIPE: (RECIPE, METRICS, RESULTS)}
    if any(path.name in names and (folder / mark).is_file() for mark, names in beside.items()):
        return True
    return path.name == BEST and folder.name == FOLDER and path.exists()


def _is_same(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except (OSError, ValueError):  # one of them is not there, or no name of a file
        return False
