"""Which files, or folders, of a data set in shards are trained on, and which are tested on."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.config.wording import counted, printable
from engine.data.dataset import DataError
from engine.data.readers.image_listing import TESTING, TRAINING, VALIDATION, split_kind

_DATA = "data"  # the folder that Hugging Face puts shards into
_BETWEEN_WORDS = re.compile(r"[-_.]")


@dataclass(frozen=True)
class SplitFiles:
    """Files of each split, sorted by name."""

    train: tuple[Path, ...]
    tests: tuple[tuple[Path, ...], ...]
    """Those of a test set, and of a validation set, where they are there."""

    def passed_over(self, used: tuple[Path, ...] = ()) -> tuple[str, ...]:
        """Return a line on files of sets that are not used."""
        others = [files for files in self.tests if files != used]
        return tuple(f"passed over: {printable(each[0].name)} and what else is its set" for each in others)


def split_files(directory: Path, is_shard: Callable[[Path], bool], *, what: str) -> SplitFiles:
    """Find the shards of a folder, by the split that their names say: "train-00000.tar", "x_val_1.tar".

    They lie in the folder, or in its data/, or in folders of splits: train/, test/, val/. Where no name says
    a split, all are trained on.

    Parameters
    ----------
    is_shard
        Says of an entry whether it is one of the shards.
    what
        Of the shards, for errors: ".tar files".

    Raises
    ------
    DataError
        There are none, or none to train on, or some say a split and others do not.
    """
    for folder in (directory, directory / _DATA):
        found = _shards(folder, is_shard)
        if found:
            return _by_name(folder, found)
    kinds: dict[str, list[Path]] = {}
    for folder in sorted(path for path in directory.iterdir() if path.is_dir()):
        kind, inside = split_kind(folder.name), _shards(folder, is_shard)
        if kind and inside:
            if kind in kinds:
                raise DataError.at(directory, f"has two {kind} sets; must be one")
            kinds[kind] = inside
    if not kinds:
        raise DataError.at(directory, f"has no {what}, nor folders of splits (train/, test/) that have some")
    return _splits(directory, kinds)


def _shards(folder: Path, is_shard: Callable[[Path], bool]) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".") and is_shard(path))


def _by_name(folder: Path, found: Sequence[Path]) -> SplitFiles:
    kinds: dict[str, list[Path]] = {}
    for path in found:
        kinds.setdefault(_kind(path) or "", []).append(path)
    unnamed = kinds.pop("", [])
    if unnamed and kinds:
        others = next(iter(kinds.values()))
        raise DataError.at(
            unnamed[0],
            f"says no split, while {printable(others[0].name)} does; must all have train, test or val in "
            "their names, or none",
        )
    return _splits(folder, kinds or {TRAINING: unnamed})


def _kind(path: Path) -> str | None:
    words = _BETWEEN_WORDS.split(path.name)
    return next((kind for word in words if (kind := split_kind(word))), None)


def _splits(folder: Path, kinds: dict[str, list[Path]]) -> SplitFiles:
    if TRAINING not in kinds:
        count = sum(map(len, kinds.values()))
        raise DataError.at(
            folder, f"has {counted(count, 'file')} to test on, and none to train on (train-...)"
        )
    tests = tuple(tuple(kinds[kind]) for kind in (TESTING, VALIDATION) if kind in kinds)
    return SplitFiles(tuple(kinds[TRAINING]), tests)
