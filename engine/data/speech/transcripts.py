"""What is said in recordings: lines of a name and the text, as Kaldi or Asterisk write them."""

from __future__ import annotations

import re
from pathlib import Path

from engine.config.files import read_bytes
from engine.config.wording import printable, shortened
from engine.data.dataset import DataError

_COMMENTS = (";", "#")
_NOT_SPOKEN = re.compile(r"[\[(<]")
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*'?")


def read_transcripts(path: Path) -> dict[str, str]:
    """Return the text of each recording, by its name without the ending, in the order of the file.

    A line is ``NAME TEXT`` or ``NAME: TEXT``; empty ones, and those that begin with ; or #, say nothing.

    Raises
    ------
    DataError
        The file cannot be read, is no text, has a name twice, or no line at all.
    """
    found: dict[str, str] = {}
    try:
        content = read_bytes(path).decode("utf-8-sig")
    except OSError as error:
        raise DataError.at(path, f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError.at(path, f"is no text in UTF-8: {error}") from error
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip() or line.startswith(_COMMENTS):
            continue
        name, *rest = line.split(None, 1)
        name = name.removesuffix(":").removesuffix(".wav")
        if name in found:
            raise DataError.at(f"{path}:{number}", f"has {printable(shortened(name))} a second time")
        found[name] = rest[0].strip() if rest else ""
    if not found:
        raise DataError.at(path, "has no lines of a name and a text")
    return found


def words_of(text: str) -> list[str]:
    """Return the words of a text in lower case; none where it has remarks in brackets, which nobody says."""
    return [] if _NOT_SPOKEN.search(text) else _WORD.findall(text.lower().replace("\u2019", "'"))
