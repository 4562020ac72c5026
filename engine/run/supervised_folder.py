"""The folder of a run that the launcher starts again: what is in it, and what of it is taken away before."""

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.config.errors import UserError
from engine.config.files import reading, writing
from engine.config.paths import expand
from engine.run.folder_lock import LOCK, lock_folder
from engine.run.kept_checkpoints import FOLDER, checkpoints_of
from engine.run.run_folder import RESTARTS, holds_a_run, last_step, rewind, unused_folder
from engine.run.start import Start
from engine.run.whole import newest_whole_of


@dataclass
class SupervisedFolder:
    """A run's folder, as the launcher sees it while no rank runs."""

    path: Path
    is_new: bool
    """It held no run before this one, whose files may be removed."""
    is_made: bool = False
    """The launcher has made it."""
    _before: set[tuple[str, int, int]] = field(default_factory=set)
    """The checkpoints that were there before the first start."""

    def __post_init__(self) -> None:
        with suppress(OSError, UserError):
            self._before = {_identity(each) for each in checkpoints_of(self.path)}

    @classmethod
    def of(cls, start: Start) -> "SupervisedFolder":
        """Return the folder of a run that starts so; make one where none is named.

        Raises
        ------
        UserError
            It cannot be made.
        """
        if start.run is not None:
            return cls(start.run, is_new=False)
        if start.recipe.out:
            path = expand(start.recipe.out, "out")
            return cls(path, is_new=not holds_a_run(path))
        return cls(unused_folder(start.name), is_new=True, is_made=True)

    def newest_whole(self) -> Path | None:
        """Return the newest checkpoint that is whole, if this run has written any; else None.

        As long as it has written none, those that are there may be later than the one it was to go on from.
        """
        if all(_identity(each) in self._before for each in checkpoints_of(self.path)):
            return None
        return newest_whole_of(self.path)

    def last_step(self) -> int:
        """Return the last step that is in the run's metrics; 0 where none is, or they cannot be read."""
        try:
            return last_step(self.path)
        except UserError:
            return 0

    def note(self, restart: Mapping[str, Any]) -> None:
        """Add a line to the list of restarts.

        Raises
        ------
        UserError
            It cannot be written.
        """
        line = json.dumps({"time": time.strftime("%FT%T%z"), **restart})
        with writing(self.path / RESTARTS, "out"):
            self.path.mkdir(parents=True, exist_ok=True)
            with (self.path / RESTARTS).open("a") as file:
                file.write(line + "\n")

    def is_free(self) -> bool:
        """Say whether no process of an earlier start writes there any more."""
        if not self.path.exists():
            return True
        try:
            lock_folder(self.path, "out").release()
        except UserError:
            return False
        return True

    def clear(self) -> None:
        """Remove what a new run has written, none of which is a checkpoint, so that it can begin again.

        Raises
        ------
        UserError
            Something cannot be removed, or another run has begun to write there.
        """
        if not self.is_new or not self.path.exists():
            return
        lock = lock_folder(self.path, "out")
        try:
            rewind(self.path, 0)
            with suppress(OSError):  # something that the run has not made is in it
                (self.path / FOLDER).rmdir()
        finally:
            lock.release()

    def tidy(self) -> None:
        """Remove a folder that the launcher has made and no rank has used."""
        if self.is_made and self.path.exists() and not any(each.name != LOCK for each in self.path.iterdir()):
            with suppress(OSError):
                (self.path / LOCK).unlink(missing_ok=True)
                self.path.rmdir()


def _identity(checkpoint: Path) -> tuple[str, int, int]:
    """Return what tells a checkpoint from another one of its name."""
    with reading(checkpoint):
        status = checkpoint.stat()
    return checkpoint.name, status.st_ino, status.st_mtime_ns
