"""All runs in a folder, each at a glance; thousands of them, of which most have ended long ago."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock
from urllib.parse import quote

from engine.config.wording import printable
from engine.report import progress
from engine.report.followed_run import FollowedRun, is_run, names_in
from engine.report.progress import OVER, State

DEPTH = 2
"""How far below the folder runs are looked for: runs/a, and runs/networks/a."""

_LOOK_S = 0.5  # of one look, for runs that have never been looked at: the others come with the next
_SHARE = 0.05  # of the time, at most, that looks take
_LEAST_PAUSE_S = 0.5


@dataclass
class ListedRun:
    """A run of a list."""

    key: str
    """Its part of an address: of ASCII, without a slash."""
    name: str
    run: FollowedRun
    facts: dict[str, str] = field(default_factory=dict)
    state: State | None = None
    """None until it has been looked at."""
    changed: int = 0
    """The count of the list when it was another than before."""
    folder_seen: int | None = None
    """When its folder was last changed, of a run that is over, which is not looked at before it changes."""


class RunsInFolder:
    """The runs in a folder; hold `lock` while you look at them."""

    def __init__(self, root: Path):
        self.root = root
        self.lock = RLock()
        self.runs = dict[str, ListedRun]()
        """By their keys."""
        self.count = 0
        """Of changes."""
        self.beginning = f"{time.time_ns():x}"
        """Another text whenever a run has gone."""
        self._next_look = 0.0

    def refresh(self) -> None:
        """Look for runs, and at them; not before some time has passed since the last look."""
        began = time.monotonic()
        if began < self._next_look:
            return
        self._find()
        now = time.time()
        waiting = []
        for each in self.runs.values():
            if each.state is None:
                waiting.append(each)
            else:
                self._look(each, now)
        for each in waiting:
            self._look(each, now)
            if time.monotonic() > began + _LOOK_S:
                break
        ended = time.monotonic()
        self._next_look = ended + max(_LEAST_PAUSE_S, (ended - began) / _SHARE)
        if self.is_behind:
            self._next_look = ended

    @property
    def is_behind(self) -> bool:
        """There are runs that have never been looked at."""
        return any(each.state is None for each in self.runs.values())

    def newest_first(self) -> list[ListedRun]:
        """Return the runs in the order of their last signs of life."""
        return sorted(self.runs.values(), key=lambda each: -(each.run.signed_at or 0.0))

    def _find(self) -> None:
        found = dict[str, Path]()
        for path in self._below(self.root, DEPTH):
            found[self._key(path)] = path
        if self.runs.keys() - found.keys():
            self.beginning = f"{time.time_ns():x}"
        for key in self.runs.keys() - found.keys():
            del self.runs[key]
        for key in found.keys() - self.runs.keys():
            name = printable(found[key].relative_to(self.root))
            self.runs[key] = ListedRun(key, name, FollowedRun(name, found[key], glance=True))

    def _key(self, path: Path) -> str:
        return quote(os.fsencode(path.relative_to(self.root)), safe="")

    def _below(self, folder: Path, depth: int) -> Iterator[Path]:
        with suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") or not _is_folder(entry):
                    continue
                path = Path(entry.path)
                if self._key(path) in self.runs or is_run(names_in(path)):
                    yield path
                elif depth > 1:
                    yield from self._below(path, depth - 1)

    def _look(self, each: ListedRun, now: float) -> None:
        seen = _changed_at(each.run.folder)
        if each.folder_seen is not None and each.folder_seen == seen:
            return
        each.run.refresh()
        facts, state = progress.facts(each.run, now), progress.state(each.run, now)
        each.folder_seen = seen if state.kind == OVER else None
        if (facts, state) != (each.facts, each.state):
            self.count += 1
            each.facts, each.state, each.changed = facts, state, self.count


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _changed_at(folder: Path) -> int | None:
    try:
        return folder.stat().st_mtime_ns
    except OSError:
        return None
