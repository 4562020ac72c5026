"""Frames of speech with their labels, from Kaldi's features and alignments."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from engine.config.errors import UserError
from engine.config.wording import counted, printable
from engine.data.dataset import DataError, DataSource, Labelled, digest
from engine.data.readers.ark import Ark, Matrix
from engine.data.readers.kaldi_folder import FEATURES, SPEAKERS
from engine.data.readers.kaldi_split import Split, list_split
from engine.data.readers.moments import Moments


@dataclass(frozen=True, eq=False)
class KaldiFrames(Labelled):
    """Frames of utterances, each with its neighbours: features [context * F], the earliest frame first.

    Frames are read from the archives when they are wanted, and nothing of them is kept: several threads may
    read. At the ends of an utterance its first and last frames are repeated.

    Attributes
    ----------
    context
        Frames of a sample, an odd number.
    utterances
        U names.
    arks, ark_of
        Archives, and int32 [U], which one an utterance is in.
    matrices
        U of them.
    ends
        int64 [U], frames of the data set up to and with an utterance.
    labels
        uint16 [N].
    speaker_of
        int32 [U], row of `mean` and `scale`.
    mean, scale
        float64 [S, F]: a feature f becomes ``(f - mean) * scale``.
    """

    READS_ON_THREADS: ClassVar[bool] = True
    NOUN: ClassVar[str] = "frame"

    context: int
    utterances: tuple[str, ...]
    arks: tuple[Ark, ...]
    ark_of: NDArray[np.int32]
    matrices: tuple[Matrix, ...]
    ends: NDArray[np.int64]
    labels: NDArray[np.uint16]
    speaker_of: NDArray[np.int32]
    mean: NDArray[np.float64]
    scale: NDArray[np.float64]

    def read(self, index: int, x: NDArray[np.float32]) -> int:
        """Read one frame and its neighbours into x, normalised, and return its label."""
        utterance = int(self.ends.searchsorted(index, side="right"))
        frame = index - (int(self.ends[utterance - 1]) if utterance else 0)
        matrix, half = self.matrices[utterance], self.context // 2
        first, last = max(0, frame - half), min(matrix.rows, frame + half + 1)
        rows = self.arks[self.ark_of[utterance]].rows(matrix, first, last)
        if len(rows) < self.context:
            before, behind = first - (frame - half), frame + half + 1 - last
            rows = np.concatenate([rows[:1]] * before + [rows] + [rows[-1:]] * behind)
        speaker = self.speaker_of[utterance]
        window = rows - self.mean[speaker]
        window *= self.scale[speaker]
        x[...] = window.reshape(-1)
        return int(self.labels[index])

    def fingerprint(self) -> str:
        """Hash utterances, labels and what features are normalised by; features are not read for it."""
        names = "\0".join(self.utterances).encode("utf-8", "surrogateescape")
        return digest(names, self.ends, self.labels, self.speaker_of, self.mean, self.scale)


def open_kaldi(directory: Path, sample_shape: tuple[int, ...]) -> DataSource:
    """Open the frames of a folder: of its train/ and, for testing, its test/; or all of it to train on.

    A folder holds feats.scp, and ali.scp, ali.ark or ali.txt with a label for each frame. Where it has
    utt2spk, each speaker's features are normalised by their own mean and deviation, else all by those of the
    training set; for that all features are read once. Utterances are in the order of feats.scp. Those
    without labels, or of another length than their labels by more than `TOLERANCE` frames, are left out; of
    a smaller difference what both have is used. The source's notes count them.

    Parameters
    ----------
    sample_shape
        (context * F,), F features a frame: says how many neighbours a sample has. Empty: none.
    """
    if not directory.is_dir():
        raise DataError.no_folder(
            directory, f"kaldi:DIR wants a folder of {FEATURES}, or of train/ and test/"
        )
    inner = directory / "train"
    root = inner if (inner / FEATURES).exists() else directory
    if not (root / FEATURES).exists():
        raise DataError.at(directory, f"has neither {FEATURES} nor train/{FEATURES}")
    train = list_split(root)
    test = directory / "test"
    tested = list_split(test) if root == inner and test.is_dir() else None
    _check_alike(train, tested)
    context = _context(train, sample_shape)
    classes = max(each.classes for each in (train, tested) if each is not None)
    by_all = _of_all(train) if train.speakers is None else None
    data = [
        None if split is None else _dataset(split, context, classes, by_all or _of_speakers(split))
        for split in (train, tested)
    ]
    assert data[0] is not None
    notes = [f"kaldi: {note}" for split in (train, tested) if split is not None for note in split.notes]
    notes.append(
        f"kaldi: {counted(context, 'frame')} of {counted(train.columns, 'feature')} a sample, normalised "
        + ("as the training set is" if by_all else "by speaker")
    )
    return DataSource(data[0], data[1], notes=tuple(notes))


def _check_alike(train: Split, test: Split | None) -> None:
    """Refuse a test set whose samples would not be like those of the training set."""
    if test is None:
        return
    if test.columns != train.columns:
        raise DataError.at(
            test.folder / FEATURES, f"{test.columns} features a frame; the training set has {train.columns}"
        )
    if (test.speakers is None) != (train.speakers is None):
        without = test if test.speakers is None else train
        raise DataError.at(
            without.folder, f"has no {SPEAKERS}, which the other split has; must be in both or in none"
        )


def _context(split: Split, sample_shape: tuple[int, ...]) -> int:
    """Return the frames of a sample that make the model's input."""
    if not sample_shape:
        return 1
    columns = split.columns
    if len(sample_shape) > 1 or sample_shape[0] % columns or sample_shape[0] // columns % 2 == 0:
        raise UserError(
            f"kaldi: the model wants samples of shape {sample_shape}; must be ({columns} * frames,) with an "
            f"odd number of frames, as {(11 * columns,)}: {printable(split.folder / FEATURES)} has "
            f"{counted(columns, 'feature')} a frame"
        )
    return sample_shape[0] // columns


_Scaling = tuple[list[int], NDArray[np.float64], NDArray[np.float64]]
"""Row of each utterance; mean and scale, [rows, F]."""


def _of_all(split: Split) -> Moments:
    """Return the moments of all features."""
    moments = Moments.none(split.columns)
    for _, features in split.features():
        moments.add(features)
    return moments


def _of_speakers(split: Split) -> dict[str, Moments]:
    """Return the moments of each speaker's features, by the speakers' names."""
    assert split.speakers is not None
    found: dict[str, Moments] = {}
    for utterance, features in split.features():
        found.setdefault(split.speakers[utterance], Moments.none(split.columns)).add(features)
    return found


def _scaling(split: Split, moments: Moments | dict[str, Moments]) -> _Scaling:
    if isinstance(moments, Moments):
        mean, scale = moments.mean_and_scale()
        return [0] * len(split.utterances), mean[np.newaxis], scale[np.newaxis]
    assert split.speakers is not None
    rows = {speaker: row for row, speaker in enumerate(moments)}
    pairs = [each.mean_and_scale() for each in moments.values()]
    return (
        [rows[split.speakers[utterance]] for utterance in split.utterances],
        np.stack([mean for mean, _ in pairs]),
        np.stack([scale for _, scale in pairs]),
    )


def _dataset(split: Split, context: int, classes: int, moments: Moments | dict[str, Moments]) -> KaldiFrames:
    speaker_of, mean, scale = _scaling(split, moments)
    return KaldiFrames(
        name="kaldi",
        sample_shape=(context * split.columns,),
        classes=classes,
        context=context,
        utterances=tuple(split.utterances),
        arks=tuple(split.arks),
        ark_of=np.array(split.ark_of, np.int32),
        matrices=tuple(split.matrices),
        ends=np.cumsum([len(each) for each in split.labels], dtype=np.int64),
        labels=np.concatenate(split.labels),
        speaker_of=np.array(speaker_of, np.int32),
        mean=mean,
        scale=scale,
    )
