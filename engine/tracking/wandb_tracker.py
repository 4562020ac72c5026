"""Weights & Biases: a run in the run's own folder, which `wandb sync` sends, or on its server at once."""

import os
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from engine.tracking.notes import note, noted
from engine.tracking.tracker import DONE, INTERRUPTED, About, Line

KIND = "wandb"
PROJECT = "lockstep"
"""Where neither the user nor WANDB_PROJECT names another."""
_SECOND = 1.0  # by which folders are named, so that one that goes on at once would write over the former
_EXIT_CODES = {DONE: 0, INTERRUPTED: 130}


def configure() -> None:
    """Make the library's settings, before it is imported."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")


class WandbTracker:
    """Writes history by "step/loss", the recipe as config, and results into the summary.

    The library does not say which steps an earlier process has written, so that is noted: what has come up to
    there is not written again.
    """

    def __init__(self, about: About):
        self._about = about
        self._run: Any = None
        self._id = ""
        self._last = dict[str, int]()  # step that has been written of each kind of line

    def begin(self) -> int:
        """Make a run, or go on with the one that was noted; offline unless WANDB_MODE says otherwise."""
        import wandb  # noqa: PLC0415 -- an extra: only its users need it

        if self._run is not None:
            return self._last.get("step", 0)
        about = self._about
        held = {} if about.is_changed else noted(about.folder, KIND, about.place)
        self._id = str(held.get("id") or uuid.uuid4().hex[:12])
        self._last = {str(kind): int(step) for kind, step in held.get("last", {}).items()}
        if held:
            time.sleep(_SECOND)
        self._run = wandb.init(
            project=about.place or os.environ.get("WANDB_PROJECT") or PROJECT,
            name=about.name,
            id=self._id,
            resume="allow",
            dir=about.folder,
            config=dict(about.recipe),
            allow_val_change=True,
            mode=None if os.environ.get("WANDB_MODE") else "offline",
            save_code=False,
            settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
        )
        self._note()
        return self._last.get("step", 0)

    def write(self, lines: Sequence[Line]) -> None:
        """Write what is not there yet; lines of one step become one row."""
        for line in lines:
            if line.step > self._last.get(line.kind, 0):
                self._run.log(dict(line.values), step=line.step)
                self._last[line.kind] = line.step
        self._note()

    def end(self, ending: str, results: Mapping[str, Any]) -> None:
        """Write results into the summary, and finish the run."""
        told = {name: value for name, value in results.items() if isinstance(value, str | int | float)}
        self._run.summary.update({**told, "ended": ending})
        self._run.finish(exit_code=_EXIT_CODES.get(ending, 1))

    def _note(self) -> None:
        about = self._about
        note(about.folder, KIND, about.place, {"id": self._id, "last": self._last})
