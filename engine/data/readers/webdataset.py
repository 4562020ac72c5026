"""Images in tar shards, in the conventions of WebDataset: members with one key are one sample.

The key of a member is its path up to the first dot of its base name, and what follows is its kind: the file
of an image (.jpg, .png, .webp and the like), or what says its label: .cls (a number), "label" in .json, .txt.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from engine.config.wording import counted, printable
from engine.data.dataset import DataError, DataSource, digest
from engine.data.readers.class_names import SplitLabels, classes_of, label_in, read_class_names
from engine.data.readers.image_file import EncodedImage, image_endings, load_pillow
from engine.data.readers.open_files import OpenFiles
from engine.data.readers.positioned_images import Places, PositionedImages
from engine.data.readers.split_files import split_files
from engine.data.readers.tar_members import BLOCK, TarMembers, name_in
from engine.host.on_threads import on_threads

_SHARD, _PACKED = ".tar", (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_LABELS = ("cls", "json", "txt")  # the first that is there says it
_MOST_LABEL = 1 << 20
_THREADS = 4  # shards are listed at once: they may lie far away


@dataclass(frozen=True, eq=False, kw_only=True)
class WebDataset(PositionedImages):
    """Images that are members of tar files."""

    endings: tuple[str, ...]
    """By the kind of a place."""

    def stored(self, index: int) -> EncodedImage:
        """Return the member that is the image."""
        places = self.places
        offset, size = places.offsets[index], places.sizes[index]
        content = self.opened.read(places.files[index], offset - BLOCK, BLOCK + size)
        name = os.fsdecode(name_in(content[:BLOCK]))
        ending = self.endings[places.kinds[index]]
        return EncodedImage(f"{self.path_of(index)}: {name}", content[BLOCK:], ending)


def open_webdataset(directory: Path, sample_shape: tuple[int, int, int]) -> DataSource:
    """List the samples of a folder's tar shards by their headers, in the order of shards and members.

    `engine.data.readers.split_files` says which shards are trained on. Labels that are no numbers are names
    in a classes.txt beside the shards.

    Raises
    ------
    DataError
        A shard is damaged or compressed, or an image has no label.
    """
    load_pillow()
    if not directory.is_dir():
        raise DataError.no_folder(directory, "webdataset:DIR wants a folder of .tar files")
    names = read_class_names(directory)
    files = split_files(directory, _is_shard, what=".tar files")
    test_files = files.tests[0] if files.tests else ()
    listed = [_listed(paths, names) for paths in (files.train, test_files) if paths]
    labels = [each.places.all_labels() for each in listed]
    said = [SplitLabels(its, each.name_of) for each, its in zip(listed, labels, strict=True)]
    classes = classes_of(said, names, directory)
    endings = tuple(sorted(image_endings()))
    splits = [
        WebDataset(
            name="webdataset",
            sample_shape=sample_shape,
            classes=classes,
            class_names=names,
            labels=its,
            opened=each.opened,
            places=each.places,
            hashed=digest(each.hashed, its),
            endings=endings,
        )
        for each, its in zip(listed, labels, strict=True)
    ]
    others = sum(each.others for each in listed)
    lines = files.passed_over(test_files) + (
        (f"passed over: {counted(others, 'member')} that are no part of a sample with an image",)
        if others
        else ()
    )
    notes = tuple(f"webdataset: {line}" for line in lines)
    return DataSource(splits[0], splits[1] if len(splits) > 1 else None, notes=notes)


def _is_shard(path: Path) -> bool:
    name = path.name.lower()
    if name.endswith(_PACKED):
        raise DataError.at(
            path, "is compressed, and samples are read by position; decompress it (gunzip, or tar's own tool)"
        )
    return name.endswith(_SHARD)


@dataclass
class _Listed:
    """What was found in shards."""

    opened: OpenFiles
    places: Places = field(default_factory=Places)
    hashed: bytes = b""
    others: int = 0

    def name_of(self, index: int) -> str:
        """Return what errors call a sample."""
        path = self.opened.paths[self.places.files[index]]
        return f"{path}: the member at byte {self.places.offsets[index]:,}"


def _listed(paths: Sequence[Path], names: Sequence[str]) -> _Listed:
    whole = _Listed(OpenFiles(paths))
    numbers = {name: label for label, name in enumerate(names)}

    def scan(file: int) -> _Shard:
        shard = _Shard(TarMembers(whole.opened, file), file, numbers)
        shard.scan()
        return shard

    for shard in on_threads(scan, range(len(paths)), min(_THREADS, len(paths))):
        whole.places.extend(shard.places)
        whole.hashed += shard.hashed.digest()
        whole.others += shard.others
    whole.hashed = hashlib.sha256(whole.hashed).digest()
    return whole


class _Shard:
    """The samples of one shard, found member by member."""

    def __init__(self, members: TarMembers, file: int, numbers: dict[str, int]):
        self.places, self.hashed, self.others = Places(), hashlib.sha256(), 0
        self._members, self._file, self._numbers = members, file, numbers
        self._kinds = {os.fsencode(each[1:]): kind for kind, each in enumerate(sorted(image_endings()))}
        self._ranks = {os.fsencode(each): rank for rank, each in enumerate(_LABELS)}
        self._forget(b"")

    def scan(self) -> None:
        """Find all samples."""
        for name, offset, size in self._members:
            folder, slash, base = name.rpartition(b"/")
            stem, dot, ending = base.partition(b".")
            if not stem or not dot:
                self.others += 1
                continue
            key = folder + slash + stem
            if key != self._key:
                self._finish()
                self._forget(key)
            self._take(name, ending.lower(), offset, size)
        self._finish()

    def _forget(self, key: bytes) -> None:
        self._key, self._image, self._count = key, (b"", 0, 0, 0), 0
        self._rank, self._label = len(_LABELS), (b"", b"")

    def _take(self, name: bytes, ending: bytes, offset: int, size: int) -> None:
        self._count += 1
        kind = self._kinds.get(ending)
        if kind is not None:
            if self._image[0]:
                raise self._wrong(name, "is a second image of one key; must be one")
            self._image = (name, offset, size, kind)
            return
        rank = self._ranks.get(ending)
        if rank is not None and rank < self._rank:
            if size > _MOST_LABEL:
                raise self._wrong(name, f"has {size:,} bytes, which is no label")
            self._rank, self._label = rank, (name, self._members.read(offset, size))

    def _finish(self) -> None:
        """Note the sample whose members have come, if it has an image."""
        name, offset, size, kind = self._image
        if not name:
            self.others += self._count
            return
        if self._rank == len(_LABELS):
            raise self._wrong(name, 'has no label beside it: .cls, .json with "label", or .txt')
        label = self._label_in(*self._label)
        self.places.add(file=self._file, offset=offset, size=size, kind=kind, label=label)
        self.hashed.update(b"%b\0%d\n" % (name, size))

    def _label_in(self, name: bytes, content: bytes) -> int:
        try:
            text = content.decode()
            if _LABELS[self._rank] == "json":
                text = str(json.loads(text)["label"])
            return label_in(text, self._numbers)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            problem = 'no JSON with "label"' if isinstance(error, KeyError | TypeError) else error
            raise self._wrong(name, f"says no label: {problem}") from error

    def _wrong(self, name: bytes, problem: str) -> DataError:
        return DataError.at(self._members.path, f"{printable(os.fsdecode(name))}: {problem}")
