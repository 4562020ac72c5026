"""Damage files, read them, and demand that they are read or refused in one line."""

import resource
import signal
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

import numpy as np

from engine.config.errors import UserError
from tests.fuzz_readers.damage import DAMAGES
from tests.fuzz_readers.targets import Target

HANG_S = 20.0
EXPLOSION_BYTES = 1 << 30
LONGEST = 1000  # message that is still a line


class HangError(BaseException):
    """A reader that does not come back; no `except Exception` takes it for its own."""


@dataclass
class Outcome:
    """What became of the damaged files."""

    read: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "")


def fuzz(targets: Sequence[Target], runs: range, *, seed: int) -> Outcome:
    """Damage one file a run and read it; a run depends on the seed and its number only."""
    whole = {target.name: target.path.read_bytes() for target in targets}
    outcome = Outcome()
    for number in runs:
        target = targets[number % len(targets)]
        rng = np.random.default_rng((seed, number))
        damage = DAMAGES[int(rng.integers(len(DAMAGES)))]
        content = bytearray(whole[target.name])
        for _ in range(int(rng.integers(1, 3))):
            content = bytearray(damage(content, rng))
        target.path.write_bytes(content)
        _attempt(target, f"run {number}, {target.name}, {damage.__name__}", outcome)
        target.path.write_bytes(whole[target.name])  # others read it too
    return outcome


def _attempt(target: Target, label: str, outcome: Outcome) -> None:
    before, started = _peak_bytes(), time.perf_counter()
    try:
        with _limited():
            target.read()
        outcome.read[target.name] += 1
    except UserError as error:
        outcome.refused[target.name] += 1
        message = str(error)
        if not message.isprintable() or not 0 < len(message) < LONGEST:
            outcome.failures.append(f"{label}: {len(message)} characters of message: {message[:LONGEST]!r}")
    except HangError:
        outcome.failures.append(f"{label}: no answer in {HANG_S:g} s")
    except Exception:
        outcome.failures.append(f"{label}:\n{traceback.format_exc()}")
    outcome.slowest = max(outcome.slowest, (time.perf_counter() - started, label))
    if _peak_bytes() - before > EXPLOSION_BYTES:
        outcome.failures.append(f"{label}: took {_peak_bytes() - before:,} bytes of memory")


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@contextmanager
def _limited() -> Iterator[None]:
    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise HangError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, HANG_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
