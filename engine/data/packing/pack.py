"""Pack a data set into another format: piece by piece, going on where an earlier run was interrupted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from engine.config.errors import UserError
from engine.config.files import read_text, sync_folder, unfinished, write_whole, writing
from engine.config.paths import expand, working_folder
from engine.config.wording import counted, did_you_mean
from engine.data.dataset import Dataset, DataSource
from engine.data.labels import labels_of
from engine.data.packing.pieces import PIECE, Piece, pieces_of, runs_of
from engine.data.packing.progress import Progress, Say
from engine.data.packing.samples import Sample, Taking, check_images
from engine.data.packing.writers import WRITERS, Writer
from engine.data.sources import open_unfitted
from engine.host.on_threads import on_threads

RECORD = "packing.json"
"""Which pieces are whole, and the hash of each; in the folder until all of them are."""
_RUN = 16  # samples that a thread reads at once
_AHEAD = 4  # such runs, for each thread, that wait to be written


@dataclass(frozen=True)
class Packing:
    """What is packed, where to, and how."""

    source: DataSource
    spec: str
    """Of the new data set: "webdataset:DIR"."""
    taking: Taking
    threads: int
    say: Say

    @property
    def kind(self) -> str:
        """The format."""
        return self.spec.partition(":")[0]

    @property
    def place(self) -> Path:
        """The folder."""
        return working_folder() / expand(self.spec.partition(":")[2], "pack")

    def identity(self) -> dict[str, Any]:
        """Return what an interrupted run must have packed, so that this one goes on with it."""
        return {
            "kind": self.kind,
            "data": [self.source.identity, self.source.test_identity],
            "resize": self.taking.resize,
            "quality": self.taking.quality if self.taking.resize else 0,
            "piece": PIECE,
        }


def pack(source: DataSource, spec: str, *, taking: Taking, threads: int, show: Say, say: Say) -> None:
    """Write all samples of a data set into a new one, and compare what was written with what was read.

    It is prepared beside its place, in a folder that ends in ".unfinished", and named when it is whole.

    Parameters
    ----------
    spec
        The format and the folder: "webdataset:DIR".
    show, say
        Print a line of the result, and of the progress.

    Raises
    ------
    UserError
        The folder is there already, or cannot be written; or the data has no images, or damaged ones.
    """
    _check_spec(spec)
    for data in source.splits():
        check_images(data)
    packing = Packing(source, spec, taking, threads, say)
    place = packing.place
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise UserError(f"pack: {place}: exists; give another name, as nothing is replaced")
    if not place.parent.is_dir():
        raise UserError(f"pack: {place}: there is no folder {place.parent}")
    folder = unfinished(place)
    with writing(folder, "pack"), _alone(folder):
        writer = WRITERS[packing.kind](folder, source)
        done = _begin(packing, folder, writer)
        sums = _write(packing, folder, writer, done)
        _verify(packing, folder, writer, sums)
        if place.exists():
            place.rmdir()
        folder.rename(place)
        (place / RECORD).unlink()
        sync_folder(place.parent)
    for note in writer.notes():
        show(f"{packing.kind}: {note}")
    total = sum(len(data) for data in source.splits())
    show(f"{spec}: {counted(total, 'sample')}, read back and compared")


def _check_spec(spec: str) -> None:
    kind, _, folder = spec.partition(":")
    if kind not in WRITERS or not folder:
        choices = ", ".join(f"{name}:DIR" for name in WRITERS)
        raise UserError(f'pack: got "{spec}"{did_you_mean(kind, WRITERS)}; must be one of {choices}')


class _alone:  # noqa: N801 -- used as a function is
    """Let one process at a time prepare a folder."""

    def __init__(self, folder: Path):
        self._lock = FileLock(f"{folder}.lock")

    def __enter__(self) -> None:
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise UserError(f"pack: {self._lock.lock_file}: another process is packing there") from error

    def __exit__(self, *_: object) -> None:
        self._lock.release()
        Path(self._lock.lock_file).unlink(missing_ok=True)


def _begin(packing: Packing, folder: Path, writer: Writer) -> dict[str, str]:
    """Return the hashes of pieces that are there already; make a new folder where none are."""
    identity, done = packing.identity(), _recorded(folder)
    if done is None:
        folder.mkdir()
        _record(folder, identity, {})
        writer.begin()
        return {}
    if done["identity"] != identity:
        raise UserError(
            f"pack: {folder}: holds an unfinished packing of other data, or with other options; remove it, "
            "or give another name"
        )
    writer.begin()
    pieces: dict[str, str] = done["pieces"]
    if pieces:
        packing.say(f"going on: {counted(len(pieces), 'piece')} of an earlier run are whole")
    return pieces


def _recorded(folder: Path) -> dict[str, Any] | None:
    """Return the record of an unfinished packing; None where there is none."""
    if not folder.exists():
        return None
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        return None
    try:
        record = json.loads(read_text(folder / RECORD))
        if isinstance(record["identity"], dict) and all(
            isinstance(each, str) for each in record["pieces"].values()
        ):
            return dict(record)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass
    raise UserError(f"pack: {folder}: is no packing that could go on; remove it, or give another name")


def _record(folder: Path, identity: dict[str, Any], pieces: dict[str, str]) -> None:
    write_whole(folder / RECORD, json.dumps({"identity": identity, "pieces": pieces}))


def _write(packing: Packing, folder: Path, writer: Writer, done: dict[str, str]) -> dict[str, str]:
    """Write the pieces that are not there; return the hashes of all."""
    sums = dict(done)
    data = dict(zip(("train", "test"), packing.source.splits(), strict=False))
    labels = {split: labels_of(each, "pack") for split, each in data.items()}
    pieces = pieces_of(packing.source, PIECE)
    progress = Progress(packing.say, "packed", sum(each.count for each in pieces if each.name not in done))
    for piece in pieces:
        if piece.name in done:
            continue
        total = hashlib.sha256()

        def taken(piece: Piece = piece, total: Any = total) -> Iterator[Sample]:
            found = _samples(packing, data[piece.split], labels[piece.split], piece.indices())
            with closing(found):
                for sample, digest in found:
                    total.update(digest)
                    progress.step()
                    yield sample

        writer.write(piece, taken())
        sums[piece.name] = total.hexdigest()
        _record(folder, packing.identity(), sums)
    return sums


def _samples(
    packing: Packing, data: Dataset, labels: NDArray[np.int64], indices: Sequence[int]
) -> Generator[tuple[Sample, bytes], None, None]:
    """Yield samples in their order, with the hash of each, read on threads."""

    def read(run: list[int]) -> list[tuple[Sample, bytes]]:
        samples = [packing.taking.sample(data, labels, index) for index in run]
        return [(sample, sample.digest()) for sample in samples]

    threads = packing.threads
    with closing(on_threads(read, runs_of(indices, _RUN), threads, ahead=_AHEAD * threads)) as runs:
        for run in runs:
            yield from run


def _verify(packing: Packing, folder: Path, writer: Writer, sums: dict[str, str]) -> None:
    """Read all of it back, and compare contents and labels with what was written."""
    packing.say("reading it back")
    written = open_unfitted(f"{packing.kind}:{folder}")
    pieces = pieces_of(packing.source, PIECE)
    progress = Progress(packing.say, "compared", sum(each.count for each in pieces))
    as_it_is = Packing(written, packing.spec, Taking(), packing.threads, packing.say)
    for split, data, its in zip(("train", "test"), packing.source.splits(), written.splits(), strict=False):
        labels = labels_of(its, "pack")
        places = writer.places(split, labels_of(data, "pack"))
        if len(its) != len(data):
            raise UserError(
                f"pack: {folder}: {split} has {len(its)} samples of {len(data)} when it is read back"
            )
        for piece in (each for each in pieces if each.split == split):
            total = hashlib.sha256()
            found = _samples(as_it_is, its, labels, places[piece.first : piece.first + piece.count].tolist())
            for _, digest in found:
                total.update(digest)
                progress.step()
            if total.hexdigest() != sums[piece.name]:
                raise UserError(
                    f"pack: {folder}: piece {piece.name} is not what was written when it is read back: a "
                    "damaged disk, or somebody has changed it; remove the folder"
                )
    if (
        len(written.splits()) != len(packing.source.splits())
        or written.train.classes != packing.source.train.classes
    ):
        raise UserError(
            f"pack: {folder}: has other splits or classes when it is read back; remove the folder"
        )
