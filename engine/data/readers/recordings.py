"""Recordings of speech in WAV files, each a picture of log mel energies: time down, pitch to the right."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from engine.config.errors import UserError
from engine.config.wording import counted, printable
from engine.data.dataset import DataError, DataSource, Labelled, digest
from engine.data.readers.log_mel import LogMel
from engine.data.readers.moments import fixed_sum
from engine.data.readers.recording_listing import Split, list_recordings
from engine.data.readers.wav_file import read_header, read_samples

CACHE_BYTES = 1 << 30
FLAT_MELS = 40
"""Mel energies of a frame, where the model's input is a vector."""
_LEAST_DEVIATION = 1e-3  # of logarithms


@dataclass(frozen=True, eq=False)
class Recordings(Labelled):
    """Recordings that are read when they are wanted, and kept as features if all of them fit the budget.

    Attributes
    ----------
    root, files
        Names relative to the folder.
    labels
        int32 [N].
    rate
        Samples a second, of all recordings.
    frames, mels
        Of a sample.
    energies
        Makes the features.
    cache
        float32 [N, *sample_shape], or [0, *sample_shape] where they do not fit; a row is written when first
        read.
    cached
        bool [N]: which rows of the cache are written.
    """

    READS_ON_THREADS: ClassVar[bool] = True
    NOUN: ClassVar[str] = "recording"

    root: Path
    files: tuple[str, ...]
    labels: NDArray[np.int32]
    rate: int
    frames: int
    mels: int
    energies: LogMel
    cache: NDArray[np.float32]
    cached: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.files)

    def read(self, index: int, x: NDArray[np.float32]) -> int:
        """Compute or recall the features of one recording, and return its label."""
        if self.cached[index]:
            x[...] = self.cache[index]
            return int(self.labels[index])
        samples, _ = read_samples(
            self.root / self.files[index], self.rate, self.energies.samples(self.frames)
        )
        x[...] = centred(normalised(self.energies.of_samples(samples)), self.frames).reshape(x.shape)
        if len(self.cache):
            self.cache[index] = x
            self.cached[index] = True
        return int(self.labels[index])

    def inspect(self, index: int) -> tuple[int, tuple[int, ...]]:
        """Read one recording and return its label and the number of its samples."""
        _, samples = read_samples(
            self.root / self.files[index], self.rate, self.energies.samples(self.frames)
        )
        return int(self.labels[index]), (samples,)

    def fingerprint(self) -> str:
        """Hash names and labels; the recordings themselves are not read for it."""
        return digest(b"\0".join(map(os.fsencode, self.files)), self.labels)


def normalised(energies: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return energies less their mean, by their deviation, each over the whole recording."""
    flat = energies.reshape(-1)
    centred_at_0 = energies - fixed_sum(flat) / len(flat)
    flat = centred_at_0.reshape(-1)
    deviation = math.sqrt(fixed_sum(flat * flat) / len(flat))
    return centred_at_0 / max(deviation, _LEAST_DEVIATION)


def centred(features: NDArray[np.float64], frames: int) -> NDArray[np.float64]:
    """Return so many frames with the features in the middle: zeros around them, or their ends cut off."""
    missing = frames - len(features)
    if missing <= 0:
        return features[-missing // 2 :][:frames]
    before = missing // 2
    return np.pad(features, ((before, missing - before), (0, 0)))


def open_recordings(directory: Path, sample_shape: tuple[int, ...], *, least_classes: int = 2) -> DataSource:
    """List the WAV files of a folder, as samples of the shape that the model wants.

    The folder holds class folders, in train/ and test/ where present, or files named LABEL_...wav. Of files
    named LABEL_SPEAKER_TAKE.wav, as in the Free Spoken Digit Dataset, takes 0 to 4 are the test set, unless
    there are folders for the splits. All must have the rate of the first one.

    Parameters
    ----------
    sample_shape
        (1, frames, mels), or (frames * FLAT_MELS,).
    least_classes
        Fewer classes are refused.
    """
    frames, mels = _wanted(sample_shape)
    if not directory.is_dir():
        raise DataError.no_folder(
            directory, "wav:DIR wants a folder of class folders, or of LABEL_...wav files"
        )
    train, test, notes = list_recordings(directory, least_classes)
    classes = sorted(set(train.names))
    rate = read_header(train.root / train.files[0]).rate
    energies = LogMel.of(rate, mels)
    numbers = {name: label for label, name in enumerate(classes)}

    def dataset(split: Split) -> Recordings:
        count = len(split.files)
        kept = count if 4 * count * math.prod(sample_shape) <= CACHE_BYTES else 0
        return Recordings(
            name="wav",
            sample_shape=sample_shape,
            classes=len(classes),
            class_names=tuple(map(printable, classes)),
            root=split.root,
            files=split.files,
            labels=np.array([numbers[name] for name in split.names], np.int32),
            rate=rate,
            frames=frames,
            mels=mels,
            energies=energies,
            cache=np.empty((kept, *sample_shape), np.float32),
            cached=np.zeros(count, np.bool_),
        )

    milliseconds = 1000 * energies.samples(frames) // rate
    made = (
        f"wav: {counted(frames, 'frame')} ({milliseconds} ms) of {mels} log mel energies, at {rate} samples/s"
    )
    return DataSource(dataset(train), None if test is None else dataset(test), notes=(made, *notes))


def _wanted(sample_shape: tuple[int, ...]) -> tuple[int, int]:
    """Return the frames and mel energies that the model wants."""
    match sample_shape:
        case (1, frames, mels):
            return frames, mels
        case (features,) if features % FLAT_MELS == 0:
            return features // FLAT_MELS, FLAT_MELS
        case shape:
            raise UserError(
                f"wav: the model wants samples of shape {shape}; must be (1, frames, mel energies), or "
                f"(frames * {FLAT_MELS},)"
            )
