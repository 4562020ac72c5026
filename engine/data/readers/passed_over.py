"""What a reader passes over in users' folders, which may hold anything: counted by kind, said in one line."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from engine.config.wording import counted, printable

FOLDER, FILE, HIDDEN = "folder", "file", "hidden"
_NO_FILE, _BAD_LINK = "neither file nor folder", "broken link"
_MOST_KINDS = 8  # that are listed one by one
_LONGEST_ENDING = 12


def kind_of(entry: os.DirEntry[str]) -> str:
    """Return FOLDER or FILE, also of what a link leads to, or in words why an entry is neither."""
    if entry.name.startswith("."):
        return HIDDEN
    try:
        if entry.is_dir():
            return FOLDER
        if entry.is_file():
            return FILE
    except OSError:  # a circle of links, or one into a folder that is closed to us
        return _BAD_LINK
    return _BAD_LINK if entry.is_symlink() else _NO_FILE


@dataclass
class PassedOver:
    """Counts of what was passed over, by kind: ".txt", "hidden"."""

    counts: Counter[str] = field(default_factory=Counter)

    def add(self, name: str, kind: str, where: str = "") -> None:
        """Count one entry by its kind, a file by its ending; `where` is put behind."""
        if kind == FILE:
            ending = PurePath(name).suffix.lower()
            kind = printable(ending) if len(ending) <= _LONGEST_ENDING else "with a long ending"
        elif kind == FOLDER:
            kind = f"folder {printable(name)}/"
        self.counts[f"{kind or 'without an ending'}{where and f' {where}'}"] += 1

    def line(self) -> str:
        """Say what was passed over, the most frequent first; an empty text where nothing was."""
        shown = sorted(self.counts.items(), key=lambda each: (-each[1], each[0]))
        words = [
            counted(count, kind) if kind == _BAD_LINK else f"{count} {kind}"
            for kind, count in shown[:_MOST_KINDS]
        ]
        others = sum(count for _, count in shown[_MOST_KINDS:])
        words += [f"{others} of other kinds"] if others else []
        return f"passed over: {', '.join(words)}" if words else ""


def notes_on_others(reader: str, folder: Path, used: Collection[str]) -> tuple[str, ...]:
    """Return the note on what a folder holds beside the used names; none where it holds nothing else."""
    passed = PassedOver()
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name not in used:
                passed.add(entry.name, kind_of(entry))
    line = passed.line()
    return (f"{reader}: {line}",) if line else ()
