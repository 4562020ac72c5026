"""Wording of messages: nouns with their numbers, choices, hints for misspelt names, names of files."""

import difflib
from collections.abc import Iterable
from unicodedata import category


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: "1 rank", "2 ranks"."""
    return f"{number} {noun}{'s' * (number != 1)}"


def did_you_mean(got: str, allowed: Iterable[str]) -> str:
    """Return a hint for an error, ' (did you mean "..."?)'; an empty text where no allowed name is close."""
    close = difflib.get_close_matches(got.lower(), list(allowed), n=1)
    return f' (did you mean "{close[0]}"?)' if close else ""


def one_of(allowed: Iterable[str]) -> str:
    """Return the part of an error that lists the choices."""
    return f"must be one of {', '.join(allowed)}"


def shortened(text: object, most: int = 80) -> str:
    """Return what a message quotes of a user's file, cut where it is longer than a line has room for."""
    whole = str(text)
    return whole if len(whole) <= most else f"{whole[:most]}..."


def printable(name: object) -> str:
    r"""Return a name that may hold any bytes as text on one line.

    A line feed becomes \n, a byte that is no text \xff. Nothing in it moves the cursor of a terminal,
    and any encoding of Unicode can write it.
    """
    return "".join(each if each.isprintable() else _escaped(each) for each in str(name))


def is_name(name: object) -> bool:
    """Say whether something is a text that can be written to any file, and has no control characters."""
    return isinstance(name, str) and name != "" and not any(category(each) in ("Cc", "Cs") for each in name)


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else repr(character)[1:-1]
