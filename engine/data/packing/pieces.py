"""What a data set is written in: pieces of consecutive samples of one split, each whole or not there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from engine.data.dataset import DataSource

PIECE = 2000
"""Samples of a piece, which are written again after an interruption; and of a shard."""


@dataclass(frozen=True)
class Piece:
    """Consecutive samples of one split."""

    split: str
    """"train" or "test"."""
    number: int
    """Among those of its split."""
    of: int
    first: int
    count: int

    @property
    def name(self) -> str:
        """What a record calls it: "train 3"."""
        return f"{self.split} {self.number}"

    def indices(self) -> range:
        """Return the samples."""
        return range(self.first, self.first + self.count)


def pieces_of(source: DataSource, size: int) -> list[Piece]:
    """Cut the splits of a data set into pieces."""
    return [
        Piece(split, number, -(-len(data) // size), first, min(size, len(data) - first))
        for split, data in zip(("train", "test"), source.splits(), strict=False)
        for number, first in enumerate(range(0, len(data), size))
    ]


def runs_of(indices: Iterable[int], size: int) -> list[list[int]]:
    """Cut a list of samples into short ones, which a thread reads at once."""
    each = list(indices)
    return [each[start : start + size] for start in range(0, len(each), size)]
