"""The utterances of one of Kaldi's data folders that have both features and labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.config.wording import counted, printable
from engine.data.dataset import DataError
from engine.data.readers.ark import Ark, Matrix, load_kaldiio
from engine.data.readers.kaldi_folder import FEATURES, SPEAKERS, read_labels, read_speakers, scp_entries

TOLERANCE = 5
"""Frames by which features and labels of an utterance may differ, as in Kaldi's nnet1; more: left out."""


@dataclass
class Split:
    """What a folder lists, before it is known how features are normalised."""

    folder: Path
    arks: list[Ark]
    utterances: list[str]
    ark_of: list[int]
    matrices: list[Matrix]
    labels: list[NDArray[np.uint16]]
    speakers: dict[str, str] | None
    notes: list[str]

    @property
    def columns(self) -> int:
        """Features of a frame."""
        return self.matrices[0].columns

    @property
    def classes(self) -> int:
        """One more than the largest label."""
        return max(int(each.max()) for each in self.labels) + 1

    def features(self) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Yield the features of each utterance."""
        for utterance, ark, matrix in zip(self.utterances, self.ark_of, self.matrices, strict=True):
            found = self.arks[ark].rows(matrix, 0, matrix.rows)
            if not np.isfinite(found).all():
                raise DataError.at(
                    self.arks[ark].path, f"{printable(utterance)} has features that are not finite"
                )
            yield utterance, found


def list_split(folder: Path) -> Split:
    """List the utterances of a folder that can be used, and count the others."""
    scp = folder / FEATURES
    labels = read_labels(folder)
    found = Split(folder, [], [], [], [], [], read_speakers(folder), [])
    numbers: dict[Path, int] = {}
    counts: Counter[str] = Counter()
    for utterance, path, offset in scp_entries(scp):
        if path not in numbers:
            numbers[path] = len(found.arks)
            found.arks.append(Ark(path))
        matrix = found.arks[numbers[path]].matrix(offset)
        its = labels.pop(utterance, None)
        counts[_fate(matrix, its)] += 1
        if its is not None and _fate(matrix, its) in _USED:
            found.utterances.append(utterance)
            found.ark_of.append(numbers[path])
            found.matrices.append(matrix)
            found.labels.append(its[: matrix.rows])
    counts[_FEATURELESS] = len(labels)
    found.notes.extend(
        f"{printable(folder.name)}: {counted(counts[fate], 'utterance')} {fate}"
        for fate in (_UNLABELLED, _FEATURELESS, _OTHER_LENGTH, _TRIMMED)
        if counts[fate]
    )
    if not found.utterances:
        raise DataError.at(scp, f"has no utterance that can be used; {'; '.join(found.notes)}")
    _check_columns(found)
    return found


_WHOLE, _TRIMMED = "used whole", "cut to the shorter of features and labels"
_UNLABELLED, _FEATURELESS = "without labels left out", "with labels but no features left out"
_OTHER_LENGTH = f"left out whose features and labels differ by more than {TOLERANCE} frames"
_USED = (_WHOLE, _TRIMMED)


def _fate(matrix: Matrix, labels: NDArray[np.uint16] | None) -> str:
    """Say what becomes of an utterance."""
    if labels is None:
        return _UNLABELLED
    if not len(labels) or abs(len(labels) - matrix.rows) > TOLERANCE:
        return _OTHER_LENGTH
    return _WHOLE if len(labels) == matrix.rows else _TRIMMED


def _check_columns(split: Split) -> None:
    for utterance, matrix, ark in zip(split.utterances, split.matrices, split.ark_of, strict=True):
        if matrix.form.startswith("CM"):
            load_kaldiio()
        if matrix.columns != split.columns:
            raise DataError.at(
                split.arks[ark].path,
                f"{printable(utterance)} has {matrix.columns} features a frame, "
                f"{printable(split.utterances[0])} {split.columns}",
            )
        if split.speakers is not None and utterance not in split.speakers:
            raise DataError.at(
                split.folder / SPEAKERS, f"does not name the speaker of {printable(utterance)}"
            )
