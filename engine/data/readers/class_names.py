"""Names of classes, in a file beside samples that say their class by a number: one name a line."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.config.files import read_text
from engine.config.wording import is_name, printable, shortened
from engine.data.dataset import DataError

CLASSES_FILE = "classes.txt"
MOST_CLASSES = 1 << 20


def read_class_names(folder: Path) -> tuple[str, ...]:
    """Return the names in the folder's classes.txt, by their labels; none where it is not there.

    Raises
    ------
    DataError
        The file cannot be read, or a name is there twice.
    """
    path = folder / CLASSES_FILE
    try:
        names = tuple(read_text(path).splitlines())
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise DataError.at(path, f"cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError.at(path, f"is no text: {error}") from error
    if not 1 <= len(names) <= MOST_CLASSES or not all(map(is_name, names)):
        raise DataError.at(path, "must be a name of a class in each line")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError.at(path, f'has "{shortened(twice)}" twice; must be other names')
    return names


def classes_text(names: Iterable[str]) -> str:
    """Return the content of a file of names."""
    return "".join(f"{name}\n" for name in names)


def label_in(text: str, numbers: dict[str, int]) -> int:
    """Return the label that a text says: a number, or the name of a class.

    Raises
    ------
    ValueError
        It is neither.
    """
    word = text.strip()
    if word in numbers:
        return numbers[word]
    if not (word.isascii() and word.removeprefix("-").isdigit() and len(word) < 10):
        known = "" if numbers else ", and there are no names in a classes.txt"
        raise ValueError(f'label "{printable(shortened(word, 40))}" is no whole number and no class{known}')
    return int(word)


@dataclass(frozen=True)
class SplitLabels:
    """The labels of one split."""

    labels: NDArray[Any]
    name_of: Callable[[int], str]
    """What errors call a sample: the file, and the entry in it."""


def classes_of(splits: Sequence[SplitLabels], names: Sequence[str], where: Path) -> int:
    """Return how many classes labels are of: as many as names, or by the largest of the first split.

    Raises
    ------
    DataError
        Labels do not suit them: says which sample has which.
    """
    train = splits[0].labels
    if not len(train):
        raise DataError.at(where, "has no samples to train on")
    classes = len(names) or max(int(train.max()) + 1, 1)
    most = min(classes, MOST_CLASSES) - 1
    known = f"{CLASSES_FILE} or the like" if names else "the labels that are trained on"
    for split in splits:
        wrong = np.flatnonzero((split.labels < 0) | (split.labels > most))
        if len(wrong):
            first = int(wrong[0])
            raise DataError.at(
                split.name_of(first),
                f"has label {split.labels[first]}; must be from 0 to {most}, by {known}",
            )
    return classes


def as_labels(numbers: Any) -> NDArray[np.int32]:
    """Return labels as data sets keep them."""
    return np.array(numbers, np.int32)
