"""How a run gets on, in words: how far it is, how fast, whether it lives, and what it has survived."""

import math
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import psutil

from engine.config.wording import counted, printable
from engine.report import figures
from engine.report.fields import number, numbers, tables, text, texts, whole
from engine.report.followed_run import FollowedRun
from engine.report.metrics import EPOCH, STEP, Floats, Rows
from engine.run.pace import clock

RUNNING, SILENT, OVER, BROKEN = "running", "silent", "over", "broken"
"""What a state is, for colours."""

SILENT_S = 60.0
"""Least time without a sign of life that is worth a word."""
_STEPS = 20.0  # of the usual length, if that is longer
_FRESH_S = 10.0  # a process with so new a sign lives, wherever it is

_MOST_PROCESSES = 1 << 31
_MOST_RANKS = 128  # rows of a table


@dataclass(frozen=True)
class State:
    """How it stands with a run."""

    kind: str
    words: str


def facts(run: FollowedRun, now: float) -> dict[str, str]:
    """Return what changes from step to step, by the names that a page has for it."""
    recent = run.recent()
    stands = state(run, now)
    exposed, seconds = _mean(recent, "exposed_communication_seconds"), _mean(recent, "seconds")
    return {
        "state": stands.words,
        "step": _of(_last(recent.step), total_steps(run)),
        "epoch": _epoch(run, recent),
        "loss": figures.plain(_last(recent.values["loss"])),
        "accuracy": figures.percent(_tested(run)),
        "speed": figures.plain(_speed(recent)),
        "left": _left(run, recent, seconds) if stands.kind == RUNNING else figures.NOTHING,
        "exposed": figures.duration(exposed) + _share(exposed, seconds),
        "sign": when(run.signed_at, now),
    }


def state(run: FollowedRun, now: float) -> State:
    """Return how it stands with a run."""
    if run.is_gone:
        return State(BROKEN, "its folder is gone")
    if run.results:
        return State(OVER, run.record(run.metrics.count(STEP)).state)
    signed = run.signed_at
    # Files have the time of another machine's clock, perhaps.
    age = min(math.inf if signed is None else now - signed, now - run.grown_at)
    if age > _FRESH_S and _is_dead(run):
        return State(BROKEN, "ended without results")
    usual = _mean(run.recent(), "seconds") or 0.0
    if signed is not None and age > max(SILENT_S, _STEPS * usual):
        return State(SILENT, f"silent since {when(signed, now)}")
    return State(RUNNING, "running" if run.metrics.count(STEP) else "starting")


def total_steps(run: FollowedRun) -> float | None:
    """Return the steps of the whole run; None where that is not known yet."""
    if (steps := number(run.recipe, "steps")) is not None and steps > 0:
        return steps
    epochs, length = number(run.recipe, "epochs"), run.steps_per_epoch
    return None if epochs is None or length is None else epochs * length


def host(run: FollowedRun) -> str:
    """Return where the process is that writes the folder; empty where nothing says it."""
    name, process = text(run.holder, "host"), whole(run.holder, "pid")
    return "" if name is None else printable(f"{name}, process {process}" if process else name)


def ranks(run: FollowedRun) -> int | None:
    """Return how many ranks there are: at the end, or since the last start by the launcher."""
    found = whole(run.results, "ranks")
    if found is None and run.restarts:
        found = whole(run.restarts[-1], "ranks")
    return found


def peak_bytes(run: FollowedRun, rank: int) -> float | None:
    """Return the largest resident memory of a rank; None before the end."""
    found = numbers(run.results, "peak_resident_bytes_by_rank")
    return found[rank] if rank < len(found) else None


def shown_ranks(run: FollowedRun) -> range:
    """Return the ranks that a table has rows of: rank 0 where no more is known."""
    return range(max(1, min(ranks(run) or 1, _MOST_RANKS)))


def faults(run: FollowedRun) -> Iterator[str]:
    """Yield what the run has survived: ranks that were lost, and starts by its launcher."""
    for loss in tables(run.results, "losses"):
        lost = ", ".join(f"{each:g}" for each in numbers(loss, "ranks"))
        where, left = ", ".join(texts(loss, "hosts")), whole(loss, "left")
        step = whole(loss, "step")
        begin = "the newest checkpoint or the beginning" if step is None else f"step {step:,}"
        go = "others" if left is None else counted(left, "rank")
        yield printable(f"lost rank {lost} on {where}: {go} went on from {begin}")
    for restart in run.restarts:
        at, cause = text(restart, "time") or "", text(restart, "cause") or "for a reason that is not noted"
        step, count = whole(restart, "from_step"), whole(restart, "ranks")
        begin = f"from step {step:,}" if step else "from the beginning"
        among = "" if count is None else f" with {counted(count, 'rank')}"
        moment = f"{at[:19].replace('T', ' ')}: " if at else ""
        yield printable(f"{moment}started again {begin}{among}: {cause}")


def when(moment: float | None, now: float) -> str:
    """Return a time of today as 03:07:12, and of another day with its date."""
    if moment is None:
        return figures.NOTHING
    try:
        there, here = time.localtime(moment), time.localtime(now)
    except (OverflowError, ValueError, OSError):  # a file may have any time
        return figures.NOTHING
    is_today = there[:3] == here[:3]
    return time.strftime("%T" if is_today else "%F %R", there)


def _is_dead(run: FollowedRun) -> bool:
    """Say whether the process that has locked the folder was on this host, and is no more."""
    process, where = whole(run.holder, "pid"), text(run.holder, "host")
    if process is None or not 0 < process < _MOST_PROCESSES or where != socket.gethostname():
        return False
    return not psutil.pid_exists(process)


def _epoch(run: FollowedRun, recent: Rows) -> str:
    length, step = run.steps_per_epoch, _last(recent.step)
    if length and step is not None:
        epochs = number(run.recipe, "epochs") if not number(run.recipe, "steps") else None
        return _of(step / length, epochs, decimals=2)
    begun = _last(recent.epoch)
    return figures.NOTHING if begun is None else f"in the {begun + 1:.0f}."


def _left(run: FollowedRun, recent: Rows, seconds: float | None) -> str:
    total, step = total_steps(run), _last(recent.step)
    if total is None or step is None or seconds is None:
        return figures.NOTHING
    left = max(0.0, total - step) * seconds
    return clock(left) if left < 1e9 else figures.NOTHING


def _tested(run: FollowedRun) -> float | None:
    tested = run.metrics.rows(EPOCH, max(0, run.metrics.count(EPOCH) - 1))
    found = _last(tested.values["test_accuracy"])
    return number(run.results, "test_accuracy") if found is None else found


def _speed(recent: Rows) -> float | None:
    """Return the speed of all these steps together."""
    speeds = recent.values["samples_per_second"]
    speeds = speeds[np.isfinite(speeds) & (speeds > 0)]
    return len(speeds) / float(np.sum(1 / speeds)) if len(speeds) else None


def _mean(recent: Rows, field: str) -> float | None:
    values = recent.values[field]
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else None


def _last(values: Floats) -> float | None:
    return float(values[-1]) if len(values) and np.isfinite(values[-1]) else None


def _share(exposed: float | None, seconds: float | None) -> str:
    return f", {figures.percent(exposed / seconds)}" if exposed is not None and seconds else ""


def _of(value: float | None, total: float | None, *, decimals: int = 0) -> str:
    if value is None:
        return figures.NOTHING
    return f"{value:,.{decimals}f}" + ("" if total is None else f" of {total:,.0f}")
