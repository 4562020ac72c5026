"""The command ``python -m engine.data align``: from recordings and their text to one of Kaldi's folders."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.config.errors import UserError
from engine.config.files import writing
from engine.config.wording import counted, printable
from engine.data.dataset import DataError
from engine.data.readers.log_mel import LogMel
from engine.data.readers.wav_file import read_header, read_samples
from engine.data.speech.senones import RATE, Aligner, doubled
from engine.data.speech.transcripts import words_of

MELS = 40
_LONGEST_S = 600
_MOST_UNKNOWN = 5  # words that are listed

Say = Callable[[str], None]


@dataclass(frozen=True)
class Aligned:
    """An utterance: float32 [frames, MELS] log mel energies, and int32 [frames] senones."""

    name: str
    text: str
    features: NDArray[np.float32]
    senones: NDArray[np.int32]


def align(
    folder: Path, transcripts: dict[str, str], out: Path, aligner: Aligner, *, test_every: int, say: Say
) -> None:
    """Write train/ and test/ of a new folder: features, labels, and the text of each utterance.

    Labels number the senones that occur; senones.txt says which ones they are. Every `test_every`-th
    utterance that could be aligned is for testing.

    Raises
    ------
    UserError
        The folder is there already or cannot be written, or nothing could be aligned.
    DataError
        A recording cannot be read, is too long, or has another rate; found before any is aligned.
    """
    if out.exists():
        raise UserError(f"out: {printable(out)}: exists; give another name")
    try:
        import kaldiio  # noqa: F401, PLC0415 -- an extra: only its users need it
    except ImportError as error:
        raise UserError(
            "align: kaldiio is not installed; install it with pip install 'lockstep-sgd[align]'"
        ) from error
    for name in transcripts:
        if (path := folder / f"{name}.wav").is_file():
            _check(path)
    left_out: Counter[str] = Counter()
    found = list(_aligned(folder, transcripts, aligner, left_out, say))
    if not found:
        raise UserError(f"align: no utterance of {printable(folder)} could be aligned; {_said(left_out)}")
    senones = np.unique(np.concatenate([each.senones for each in found]))
    tested = [number % test_every == test_every - 1 for number in range(len(found))]
    with writing(out, "out"):
        for split, is_test in (("train", False), ("test", True)):
            chosen = [each for each, its in zip(found, tested, strict=True) if its == is_test]
            if chosen:
                _write(out / split, chosen, senones)
        (out / "senones.txt").write_text(
            "".join(f"{label} {senone}\n" for label, senone in enumerate(senones))
        )
    frames = sum(len(each.senones) for each in found)
    said = f"{counted(len(found), 'utterance')}, {frames:,} frames, {counted(len(senones), 'senone')}"
    say(f"{said}; {_said(left_out)}")


def _aligned(
    folder: Path, transcripts: dict[str, str], aligner: Aligner, left_out: Counter[str], say: Say
) -> Iterator[Aligned]:
    unknown: Counter[str] = Counter()
    for name in sorted(transcripts):
        words, path = words_of(transcripts[name]), folder / f"{name}.wav"
        problem = "without words" if not words else "" if path.is_file() else "without a file"
        if not problem and (missing := aligner.unknown(words)):
            unknown.update(set(missing))
            problem = "with words that are not in the dictionary"
        if not problem:
            made = _utterance(name, path, words, aligner)
            if made is not None:
                yield made
                continue
            problem = "that do not fit their text"
        left_out[problem] += 1
    if unknown:
        listed = ", ".join(word for word, _ in unknown.most_common(_MOST_UNKNOWN))
        say(f"not in the dictionary: {listed}{', ...' * (len(unknown) > _MOST_UNKNOWN)}")


def _check(path: Path) -> None:
    """Refuse a recording that the acoustic model, or memory, is not made for."""
    wav = read_header(path)
    if wav.rate not in (RATE, RATE // 2):
        raise DataError.at(path, f"has {wav.rate} samples/s; must be {RATE}, or {RATE // 2}")
    if wav.samples > _LONGEST_S * wav.rate:
        raise DataError.at(path, f"lasts {wav.samples // wav.rate} s; must be at most {_LONGEST_S}")


def _utterance(name: str, path: Path, words: list[str], aligner: Aligner) -> Aligned | None:
    """Align one recording; the features are made at its own rate."""
    rate = read_header(path).rate
    samples, _ = read_samples(path, rate, _LONGEST_S * rate)
    senones = aligner.align(samples if rate == RATE else doubled(samples), words)
    if senones is None or not len(senones):
        return None
    features = LogMel.of(rate, MELS).of_samples(samples).astype(np.float32)
    frames = min(len(features), len(senones))
    return Aligned(name, " ".join(words), features[:frames], senones[:frames])


def _write(folder: Path, utterances: Iterable[Aligned], senones: NDArray[np.int32]) -> None:
    from kaldiio import WriteHelper  # noqa: PLC0415 -- an extra: only its users need it

    folder.mkdir(parents=True)
    features, labels = (f"ark,scp:{folder / name}.ark,{folder / name}.scp" for name in ("feats", "ali"))
    with (
        WriteHelper(features) as to_features,
        WriteHelper(labels) as to_labels,
        (folder / "text").open("w", encoding="utf-8") as text,
    ):
        for each in utterances:
            to_features[each.name] = each.features
            to_labels[each.name] = np.searchsorted(senones, each.senones).astype(np.int32)
            text.write(f"{each.name} {each.text}\n")


def _said(left_out: Counter[str]) -> str:
    """Say what was left out."""
    parts = [f"{count} {problem}" for problem, count in sorted(left_out.items())]
    return f"left out: {', '.join(parts)}" if parts else "none left out"
