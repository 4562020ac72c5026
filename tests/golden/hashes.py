"""The file of golden results, and how results differ from it."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.golden.runs import RUNS, Run

FILE = Path(__file__).with_name("golden.toml")
Results = Mapping[str, Any]
"""Of a run, by the names of `run.json`."""

_HEAD = """\
# What each golden run ends with, on every machine: written by python -m tests.golden --rewrite.
# A change that moves one of them is named in CHANGELOG.md.
"""


def read() -> dict[str, Results]:
    """Return the results of all runs by name, without the line that describes each."""
    tables = tomllib.loads(FILE.read_text()) if FILE.exists() else {}
    return {name: {key: value for key, value in its.items() if key != "run"} for name, its in tables.items()}


def write(results: Mapping[str, Results]) -> None:
    """Write the results of all runs, in the order of `RUNS`; others are left out."""
    tables = [_table(name, run, results[name]) for name, run in RUNS.items() if name in results]
    FILE.write_text("\n".join((_HEAD, *tables)))


def _table(name: str, run: Run, results: Results) -> str:
    lines = [
        f"{key} = {value!r}" if isinstance(value, float) else f'{key} = "{value}"'
        for key, value in results.items()
    ]
    return "\n".join((f"[{name}]", f'run = "{run}"', *lines, ""))


def moved(kept: Results | None, found: Results) -> list[str]:
    """Return what differs, a line each with both values; none where all is as it was."""
    if kept is None:
        return ["is not in golden.toml"]
    names = dict.fromkeys((*kept, *found))
    return [
        f"{name} was {kept.get(name)}, is {found.get(name)}"
        for name in names
        if kept.get(name) != found.get(name)
    ]
