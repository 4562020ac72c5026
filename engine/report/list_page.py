"""The page of all runs in a folder, and the rows that have changed since a page has last asked."""

from collections.abc import Callable
from typing import Any

from engine.config.wording import counted
from engine.report import progress
from engine.report.document import document
from engine.report.elements import grid, heading, row_name, scrolling, section
from engine.report.markup import Markup, tag
from engine.report.runs_in_folder import ListedRun, RunsInFolder

SCRIPTS = ("page/page.js", "page/follow.js", "page/live_list.js")

COLUMNS = {
    "step": "step", "epoch": "epoch", "loss": "loss", "accuracy": "test accuracy", "speed": "samples/s",
    "left": "time left", "sign": "last sign of life",
}  # fmt: skip
"""Of a table of runs, behind name and state."""

Address = Callable[[str], str]
"""Returns the address of a run's page by its key."""


def list_page(runs: RunsInFolder, title: str, address: Address, now: float) -> str:
    """Return the page of all runs in a folder."""
    head = [heading("run", numeric=False), heading("state", numeric=False), *map(heading, COLUMNS.values())]
    rows = [_row(each, address) for each in runs.newest_first()]
    table = grid("Runs", [tag("tr", *head)], rows, class_="runs")
    about = tag("span", _about(runs, now), id="about")
    connection = tag("output", id="connection", class_="connection", aria_live="polite")
    listed = section("runs", "Runs", "The newest sign of life first.", scrolling(table))
    return document(
        title, Markup(about.text + connection.text), ["runs"], [listed], {"at": _position(runs)}, SCRIPTS,
        fetches=True,
    )  # fmt: skip


def news(runs: RunsInFolder, given: str, address: Address, now: float) -> dict[str, Any]:
    """Return the rows that have changed since a page was at a position that it has been told.

    "all" is true where these are all runs that there are.
    """
    beginning, _, count = given.partition(".")
    is_known = beginning == runs.beginning and count.isascii() and count.isdecimal() and len(count) < 16
    since = int(count) if is_known else -1
    return {
        "at": _position(runs),
        "all": not is_known,
        "more": runs.is_behind,
        "about": _about(runs, now),
        "rows": [_told(each, address) for each in runs.newest_first() if each.changed > since],
    }


def _told(each: ListedRun, address: Address) -> dict[str, Any]:
    """Return a row as the page's script puts it together."""
    return {
        "key": each.key, "name": each.name, "href": address(each.key),
        "state": each.state.words if each.state else "", "kind": each.state.kind if each.state else "",
        "cells": _cells(each),
    }  # fmt: skip


def _row(each: ListedRun, address: Address) -> Markup:
    name = row_name(tag("a", each.name, href=address(each.key)))
    kind, words = (each.state.kind, each.state.words) if each.state else ("", "")
    state = tag("td", tag("span", words, class_=f"state {kind}"))
    return tag("tr", name, state, *(tag("td", text, class_="n") for text in _cells(each)), data_key=each.key)


def _cells(each: ListedRun) -> list[str]:
    return [each.facts.get(name, "") for name in COLUMNS]


def _about(runs: RunsInFolder, now: float) -> str:
    going = sum(each.state is not None and each.state.kind == progress.RUNNING for each in runs.runs.values())
    if not runs.runs:
        there = "no run so far" if runs.root.is_dir() else "the folder is not there"
        return f"{there} · as of {progress.when(now, now)}"
    count = counted(len(runs.runs), "run")
    return f"{count}, {going} going on · as of {progress.when(now, now)}"


def _position(runs: RunsInFolder) -> str:
    return f"{runs.beginning}.{runs.count}"
