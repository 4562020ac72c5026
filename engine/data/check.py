"""Read every sample of a data set once, on threads, and say what is wrong with it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field

from engine.config.errors import UserError
from engine.config.user_code import no_exit
from engine.config.wording import counted
from engine.data.dataset import DataError, Dataset, DataSource
from engine.host.on_threads import on_threads

MOST_SHOWN = 20
"""Samples that are listed by name, of those that cannot be used."""
_PIECE = 64  # samples that a thread reads at once
_PROGRESS_S = 5.0

Say = Callable[[str], None]


@dataclass
class Report:
    """What reading all samples of a data set has shown."""

    labels: Counter[int] = field(default_factory=Counter)
    """Samples by label."""
    shapes: Counter[tuple[int, ...]] = field(default_factory=Counter)
    """Samples by the shape in which they are stored."""
    wrong: list[str] = field(default_factory=list)
    """A line for each sample that cannot be used."""


def check_source(source: DataSource, *, threads: int, show: Say, say: Say) -> int:
    """Read all samples of both splits; return how many cannot be used.

    Parameters
    ----------
    show, say
        Print a line of the result, and of the progress.
    """
    for line in source.lines():
        show(line)
    wrong = 0
    for name, data in (("training", source.train), ("test", source.test)):
        if data is not None:
            report = read_all(data, range(len(data)), threads=threads, say=_about(name, say))
            for line in described(report, source.class_names):
                _about(name, show)(line)
            wrong += len(report.wrong)
    return wrong


def check_share(source: DataSource, part: int, parts: int, *, threads: int, say: Say) -> None:
    """Read a rank's share of all samples.

    Raises
    ------
    DataError
        Some cannot be used: says how many, and which is the first.
    """
    for data in filter(None, (source.train, source.test)):
        wrong = read_all(data, range(part, len(data), parts), threads=threads, say=say).wrong
        if wrong:
            others = f"; so are {len(wrong) - 1:,} more of this rank's share" if len(wrong) > 1 else ""
            raise DataError(f"{wrong[0]}{others}; python -m engine.data check lists them")


def read_all(data: Dataset, samples: range, *, threads: int, say: Say) -> Report:
    """Read samples once."""
    report, last, done = Report(), time.monotonic(), 0
    pieces = [samples[start : start + _PIECE] for start in range(0, len(samples), _PIECE)]
    inspected = on_threads(
        lambda piece: list(_inspected(data, piece)), pieces, threads if data.READS_ON_THREADS else 1
    )
    with closing(inspected):
        for found in inspected:
            for each in found:
                _add(report, each)
            done += len(found)
            if time.monotonic() - last > _PROGRESS_S:
                last = time.monotonic()
                say(f"read {done:,} of {len(samples):,}, {len(report.wrong):,} of them cannot be used")
    return report


def described(report: Report, class_names: tuple[str, ...]) -> Iterator[str]:
    """Yield the lines of a report."""
    good = report.labels.total()
    if report.shapes:
        yield f"{counted(good, 'sample')} can be read, stored as {_sizes(report.shapes)}"
        counts = sorted((report.labels.get(label, 0), name) for label, name in enumerate(class_names))
        (least, smallest), (most, largest) = counts[0], counts[-1]
        yield (
            f"{counted(least, 'sample')} in each class"
            if least == most
            else f"from {least:,} samples in class {smallest} to {most:,} in class {largest}"
        )
    if report.wrong:
        yield f"{counted(len(report.wrong), 'sample')} cannot be used:"
        yield from (f"  {line}" for line in report.wrong[:MOST_SHOWN])
        if len(report.wrong) > MOST_SHOWN:
            yield f"  and {len(report.wrong) - MOST_SHOWN:,} more"


def _about(split: str, say: Say) -> Say:
    """Return what prints a line about one split."""
    return lambda line: say(f"{split}: {line}")


def _inspected(data: Dataset, piece: range) -> Iterator[tuple[int, tuple[int, ...]] | str]:
    for index in piece:
        try:
            with no_exit(f"sample {index}"):
                found = data.inspect(index)
        except UserError as error:
            yield str(error)
        except Exception as error:  # of a user's own data set
            yield str(DataError.at(f"sample {index}", f"{type(error).__name__}: {error}"))
        else:
            yield found


def _add(report: Report, found: tuple[int, tuple[int, ...]] | str) -> None:
    if isinstance(found, str):
        report.wrong.append(found)
        return
    label, shape = found
    report.labels[label] += 1
    report.shapes[shape] += 1


def _sizes(shapes: Counter[tuple[int, ...]]) -> str:
    """Return the one shape of all samples, or the range of each of its sizes."""
    sizes = zip(*shapes, strict=True)
    return " x ".join(
        f"{min(size)}" if min(size) == max(size) else f"{min(size)}..{max(size)}" for size in sizes
    )
