"""A run's folder, followed while the run writes there: only what has come is read."""

import json
import os
import stat
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import RLock
from typing import Any

from engine.profile.recorder import warm_steps
from engine.report.fields import table
from engine.report.metrics import EPOCH, STEP, Metrics, Rows
from engine.report.run_record import RunRecord, recipe_in, results_in
from engine.report.watched_files import GrowingFile, KeptFile
from engine.run.folder_lock import HOLDER, LOCK
from engine.run.kept_checkpoints import FOLDER
from engine.run.run_folder import METRICS, RECIPE, RESTARTS, RESULTS

RECENT = 100
"""Steps that say how fast a run is."""

_GLANCE_BYTES = 8192
_GLANCED = (
    "steps", "epochs", "interrupted", "stopped_early", "ranks", "final_loss", "test_accuracy",
)  # fmt: skip
_OF_A_RUN = {METRICS, RESULTS, LOCK, HOLDER}


def is_run(names: set[str]) -> bool:
    """Say whether a folder with files of these names is one of a run, which may just have begun."""
    return not names.isdisjoint(_OF_A_RUN)


class FollowedRun:
    """What is known of a run; hold `lock` while you look at it, as several readers may.

    Of a folder that is gone, what was known stays.

    Parameters
    ----------
    glance
        Know little of it, quickly: the newest lines, and of the other files what a list of runs shows.
    """

    def __init__(self, name: str, folder: Path, *, glance: bool = False):
        self.name, self.folder = name, folder
        self.lock = RLock()
        self.metrics = Metrics()
        self.is_gone = False
        """The folder is not there any more."""
        self._glance = glance
        self._file = GrowingFile(folder / METRICS, tail=_GLANCE_BYTES if glance else None)
        few = _few if glance else lambda found: found
        self._results = KeptFile[dict[str, Any]](folder / RESULTS, lambda text: few(results_in(text)), {})
        self._recipe = KeptFile[dict[str, Any]](folder / RECIPE, lambda text: few(recipe_in(text)), {})
        self._holder = KeptFile[dict[str, Any]](folder / HOLDER, results_in, {})
        self._restarts = KeptFile[list[dict[str, Any]]](folder / RESTARTS, _lines, [])
        self.grown_at = 0.0
        """By the clock of this machine, behind which lines have last come; 0 if none were seen to."""
        self._looked_at: float | None = None
        self._saved_at: float | None = None
        self._steps_per_epoch: float | None = None
        self._known_by: tuple[str, int] | None = None  # what it was found by

    def refresh(self) -> None:
        """Read what is new."""
        try:
            self.is_gone = not stat.S_ISDIR(self.folder.stat().st_mode)
        except OSError:
            self.is_gone = True
        if self.is_gone:
            return
        for each in (self._results, self._recipe, self._holder, self._restarts):
            each.look()
        with suppress(OSError):
            self._saved_at = (self.folder / FOLDER).stat().st_mtime
        before, now = (self.version, self.metrics.lines), time.time()
        self._file.read(self._take, self._forget)
        if self._looked_at is not None and before != (self.version, self.metrics.lines):
            self.grown_at = self._looked_at
        self._looked_at = now
        if self._glance:
            self.metrics.trim(STEP, RECENT)
            self.metrics.trim(EPOCH, 1)

    def _take(self, line: bytes) -> None:
        self.metrics.add(line)

    def _forget(self) -> None:
        self.metrics = Metrics()

    @property
    def version(self) -> str:
        """Another text whenever more has changed than that lines have come."""
        files = (self._results, self._recipe, self._holder, self._restarts)
        counts = (self._file.beginnings, self.metrics.disorder, *(each.changes for each in files))
        return "-".join(map(str, (*counts, int(self.is_gone))))

    @property
    def results(self) -> Mapping[str, Any]:
        """The content of `run.json`; empty while the run goes on."""
        return self._results.value

    @property
    def recipe(self) -> Mapping[str, Any]:
        """By dotted name."""
        return self._recipe.value

    @property
    def holder(self) -> Mapping[str, Any]:
        """The process that writes there, its host, and since when; empty once it has let go."""
        return self._holder.value

    @property
    def restarts(self) -> list[dict[str, Any]]:
        """What the launcher has noted each time that it started the run again."""
        return self._restarts.value

    @property
    def signed_at(self) -> float | None:
        """The last sign of life: when the newest line, checkpoint or lock was written, since the epoch."""
        files = (self._file, self._results, self._holder)
        signs = [*(each.changed_at for each in files), self._saved_at]
        return max((each for each in signs if each is not None), default=None)

    @property
    def steps_per_epoch(self) -> float | None:
        """Steps of an epoch; None where nothing says it so far."""
        known_by = self.version, self.metrics.lines if self._steps_per_epoch is None else 0
        if known_by != self._known_by:
            self._known_by = known_by
            found = self.record().steps_per_epoch
            if found is not None or not self._glance:  # what a glance has seen once may have gone by
                self._steps_per_epoch = found
        return self._steps_per_epoch

    def recent(self) -> Rows:
        """Return the last steps, without the first few of a run, which compile kernels."""
        count = self.metrics.count(STEP)
        return self.metrics.rows(STEP, max(count - RECENT, warm_steps(count)))

    def record(self, first_step: int = 0, first_epoch: int = 0) -> RunRecord:
        """Return the run as a report has it; of the lines those from some places on."""
        return RunRecord(
            self.name,
            self.folder,
            self.results,
            self.recipe,
            self.metrics.rows(STEP, first_step),
            self.metrics.rows(EPOCH, first_epoch),
            self.metrics.damaged,
        )


def names_in(folder: Path) -> set[str]:
    """Return the names in a folder; none where it cannot be read."""
    try:
        return set(os.listdir(folder))  # noqa: PTH208 -- names, of thousands of folders
    except OSError:
        return set()


def _few(found: dict[str, Any]) -> dict[str, Any]:
    return {name: found[name] for name in _GLANCED if name in found}


def _lines(content: bytes) -> list[dict[str, Any]]:
    found = []
    for line in content.splitlines():
        with suppress(ValueError, RecursionError):
            found.append(table({"": json.loads(line)}, ""))
    return [each for each in found if each]
