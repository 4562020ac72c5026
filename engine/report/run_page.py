"""The page of a run that goes on, and what has come since a page has last asked."""

import time
from typing import Any

from engine.config.wording import printable
from engine.report import progress
from engine.report.charts import curves, curves_section, fresh_curves
from engine.report.document import document
from engine.report.fact_sections import environment_section, recipe_section, results_section
from engine.report.fields import text
from engine.report.followed_run import FollowedRun
from engine.report.layers_section import layers_section
from engine.report.live_section import faults_section, live_section, ranks_section
from engine.report.markup import Content, join, tag
from engine.report.memory_section import memory_section
from engine.report.metrics import EPOCH, STEP
from engine.report.notes import notes
from engine.report.time_section import time_section

SCRIPTS = (
    "vendor/uPlot.iife.min.js", "page/page.js", "page/curves.js", "page/follow.js", "page/live_run.js",
)  # fmt: skip

MOST_FRESH = 20_000
"""Steps of an answer; a page that lacks more, or has got as many since it was made, is made anew."""


def run_page(run: FollowedRun, now: float, *, up: str | None = None) -> str:
    """Return the page of a run.

    Parameters
    ----------
    up
        The address of the list that it is in.
    """
    record = run.record()
    records = [record]
    found = {
        "now": live_section(run, now),
        "curves": curves_section(records, grows=True),
        "ranks": ranks_section(run, now),
        "faults": faults_section(run),
        "results": results_section(records) if record.results else None,
        "time": time_section(records),
        "layers": layers_section(records),
        "memory": memory_section(records),
        "recipe": recipe_section(records),
        "environment": environment_section(records),
    }
    sections = {name: each for name, each in found.items() if each is not None}
    notices = [tag("li", line) for line in notes(record)] if record.results else []
    to_note = tag("div", tag("h2", "To note"), tag("ul", *notices), class_="notices", role="note")
    content = (to_note if notices else None, *sections.values())
    values = {"runs": curves(records), "at": _position(run), "most": MOST_FRESH}
    return document(run.name, _about(run, now, up), sections, content, values, SCRIPTS, fetches=True)


def news(run: FollowedRun, given: str, now: float) -> dict[str, Any]:
    """Return what has come since a page was at a position that it has been told.

    "anew" is true where more has changed than that lines have come: the page is to be read again.
    """
    version, steps, epochs = _read(given)
    anew = version != run.version or not 0 <= run.metrics.count(STEP) - steps <= MOST_FRESH
    found: dict[str, Any] = {
        "at": _position(run),
        "anew": anew,
        "facts": {**progress.facts(run, now), "now": progress.when(now, now)},
        "kind": progress.state(run, now).kind,
        "steps_per_epoch": run.steps_per_epoch,
    }
    if not anew and (steps, epochs) != (run.metrics.count(STEP), run.metrics.count(EPOCH)):
        begin = run.metrics.epoch_begin(steps) if steps < run.metrics.count(STEP) else steps
        found["series"] = fresh_curves(run.record(steps, epochs), run.record(begin, epochs))
    return found


def _about(run: FollowedRun, now: float, up: str | None) -> Content:
    model, names = text(run.recipe, "model"), text(run.recipe, "data")
    what = printable(f"{model} on {names}" if model and names else model or names or "a run")
    back = join([tag("a", "all runs", href=up), " · "]) if up is not None else None
    asked = time.strftime("%T", time.localtime(now))
    return join(
        [
            back, f"{what} · as of ", tag("span", asked, data_live="now"),
            tag("output", id="connection", class_="connection", aria_live="polite"),
        ]
    )  # fmt: skip


def _position(run: FollowedRun) -> str:
    return f"{run.version}.{run.metrics.count(STEP)}.{run.metrics.count(EPOCH)}"


def _read(given: str) -> tuple[str, int, int]:
    """Return the parts of a position; one that no page has been told is none of ours."""
    version, _, counts = given.partition(".")
    steps, _, epochs = counts.partition(".")
    if not all(each.isascii() and each.isdecimal() and len(each) < 16 for each in (steps, epochs)):
        return "", 0, 0
    return version, int(steps), int(epochs)
