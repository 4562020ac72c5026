"""Images that lie at known places of large files, such as tar shards: read by position, in any order."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.data.readers.open_files import OpenFiles
from engine.data.readers.stored_images import StoredImages


@dataclass
class Places:
    """Where samples lie, and their labels: a few bytes each, and no object of Python."""

    files: array[int] = field(default_factory=lambda: array("i"))
    offsets: array[int] = field(default_factory=lambda: array("q"))
    sizes: array[int] = field(default_factory=lambda: array("q"))
    kinds: array[int] = field(default_factory=lambda: array("h"))
    """What else is known of a sample, such as its ending: a small number."""
    labels: array[int] = field(default_factory=lambda: array("i"))

    def add(self, *, file: int, offset: int, size: int, kind: int, label: int) -> None:
        """Note one sample."""
        self.files.append(file)
        self.offsets.append(offset)
        self.sizes.append(size)
        self.kinds.append(kind)
        self.labels.append(label)

    def extend(self, other: Places) -> None:
        """Note the samples of another file behind these."""
        self.files.extend(other.files)
        self.offsets.extend(other.offsets)
        self.sizes.extend(other.sizes)
        self.kinds.extend(other.kinds)
        self.labels.extend(other.labels)

    def all_labels(self) -> NDArray[np.int32]:
        """Return the labels, int32 [N]."""
        return np.array(self.labels, np.int32)


@dataclass(frozen=True, eq=False, kw_only=True)
class PositionedImages(StoredImages):
    """Images at places of files.

    Attributes
    ----------
    opened
        The files.
    places
        Of all samples.
    hashed
        The fingerprint: what was read of names when the samples were found.
    """

    opened: OpenFiles
    places: Places
    hashed: str

    def content(self, index: int) -> bytes:
        """Return what lies at the place of a sample."""
        places = self.places
        return self.opened.read(places.files[index], places.offsets[index], places.sizes[index])

    def path_of(self, index: int) -> Path:
        """Return the file that a sample lies in."""
        return self.opened.paths[self.places.files[index]]

    def fingerprint(self) -> str:
        """Return the hash of names, sizes and labels; the images themselves are not read for it."""
        return self.hashed
