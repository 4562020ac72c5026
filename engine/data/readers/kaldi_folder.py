"""The text files of Kaldi's data folders: scp tables, alignments, and who speaks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.config.files import read_bytes
from engine.config.paths import working_folder
from engine.config.wording import counted, printable, shortened
from engine.data.dataset import DataError
from engine.data.readers.ark import read_vectors, vector_at

FEATURES = "feats.scp"
ALIGNMENTS = ("ali.scp", "ali.ark", "ali.txt")
"""Files that may hold the labels; the first that is there does."""
SPEAKERS = "utt2spk"
_PLACE = re.compile(r"(?P<file>.*?)(?::(?P<offset>[0-9]{1,18}))?", re.DOTALL)


def read_table(path: Path) -> dict[str, str]:
    """Read lines of a name and what belongs to it, in their order.

    Raises
    ------
    DataError
        A name comes twice or stands alone, or the file is empty.
    OSError
        It cannot be read.
    """
    table: dict[str, str] = {}
    text = read_bytes(path).decode("utf-8", "surrogateescape")
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        name, *rest = line.split(None, 1)
        if not rest or name in table:
            problem = "a second time" if name in table else "and nothing behind it"
            raise DataError.at(f"{path}:{number}", f"has {printable(shortened(name))} {problem}")
        table[name] = rest[0].strip()
    if not table:
        raise DataError.at(path, "is empty")
    return table


def scp_entries(path: Path) -> Iterator[tuple[str, Path, int]]:
    """Yield the entries of an scp file: the utterance, the archive and the place in it.

    A relative name of an archive is looked for in the working folder, as Kaldi does, and then, also by its
    last part alone, beside the scp file.

    Raises
    ------
    DataError
        An entry is a command, or a range of rows, or its archive is not there.
    """
    found: dict[str, Path] = {}
    for utterance, written in read_table(path).items():
        if written.endswith(("|", "]")) or written.startswith("|"):
            kind = "a range of rows" if written.endswith("]") else "a command, which is not run"
            raise DataError.at(
                path, f"{printable(utterance)} is {kind}; must be FILE:OFFSET, as copy-feats writes it"
            )
        match = _PLACE.fullmatch(written)
        assert match is not None
        name = match["file"]
        if name not in found:
            found[name] = _archive(name, path, utterance)
        yield utterance, found[name], int(match["offset"] or 0)


def _archive(name: str, scp: Path, utterance: str) -> Path:
    places = [Path(working_folder()) / name, scp.parent / name, scp.parent / Path(name).name]
    for place in places:
        try:
            if place.is_file():
                return place
        except (OSError, ValueError):  # no name of a file
            break
    raise DataError.at(
        scp, f"{printable(utterance)} is in {printable(shortened(name))}, which is no file here or beside it"
    )


def read_labels(folder: Path) -> dict[str, NDArray[np.uint16]]:
    """Return the labels of each utterance of a folder, one for a frame.

    Raises
    ------
    DataError
        There is no file of them, or it is damaged.
    """
    for name in ALIGNMENTS:
        path = folder / name
        if path.exists():
            found = dict(_through_scp(path) if path.suffix == ".scp" else read_vectors(path))
            if not found:
                raise DataError.at(path, "is empty")
            return found
    raise DataError.at(folder, f"has no labels: none of {', '.join(ALIGNMENTS)}")


def _through_scp(path: Path) -> Iterator[tuple[str, NDArray[np.uint16]]]:
    last, content = None, b""
    for utterance, archive, offset in scp_entries(path):
        if archive != last:
            last, content = archive, read_bytes(archive)
        if offset >= len(content):
            raise DataError.at(
                archive,
                f"{printable(utterance)} is at byte {offset} of {counted(len(content), 'byte')}; see {path}",
            )
        yield utterance, vector_at(content, offset, archive)[0]


def read_speakers(folder: Path) -> dict[str, str] | None:
    """Return the speaker of each utterance; None where the folder does not say."""
    path = folder / SPEAKERS
    return read_table(path) if path.exists() else None
