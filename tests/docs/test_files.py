"""docs/files.md: what runs write is exactly what it describes."""

import json
import re
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import get_args, get_origin

import pytest

from engine.config.recipe import Recipe
from engine.config.settings import TYPES, all_settings
from tests.mpi.launch import mpirun

PAGE = (Path(__file__).parents[2] / "docs/files.md").read_text("utf-8")
ROW = re.compile(r"^\| `([^`]+)` \|([^|]*)\|([^|]*)\|$", re.M)
HEAD = "| field | type | meaning |\n|---|---|---|\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return the folder of a run of two ranks with as many fields as a small one has, and its trace."""
    folder = tmp_path_factory.mktemp("files")
    done = mpirun(
        2, "-m", "engine.train", "digits", "--steps", "6", "--threads", "1", "--clip-norm", "1",
        "--hash-every", "3", "--keep-best", "test_accuracy", "--plan", "fc4=2",
        "--out", str(folder / "run"), "--trace", str(folder / "trace.json"), timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "run"


def tables(section):
    """Return the tables of a section, each as (field, type, meaning)."""
    (text,) = re.findall(rf"^## {re.escape(section)}\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
    found = [ROW.findall(each.partition("\n\n")[0]) for each in text.split(HEAD)[1:]]
    return [[tuple(cell.strip() for cell in row) for row in table] for table in found]


def paths(value, known, at=""):
    """Yield the fields of a table inside tables, as the page names them."""
    if isinstance(value, dict) and value:
        starred = any(name.startswith(f"{at}.*" if at else "*") for name in known)
        for name, entry in value.items():
            yield from paths(entry, known, f"{at}.{'*' if starred else name}".lstrip("."))
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for entry in value:
            yield from paths(entry, known, f"{at}[]")
    else:
        yield at


def check(table, *records):
    """Compare the fields of records with a table: tables may be null or empty, "Only" fields missing."""
    known = {name for name, _, _ in table}
    assert len(known) == len(table)
    written = {path for record in records for path in paths(record, known)}
    holders = {start.removesuffix("[]") for name in known for start in _starts(name)}
    assert written - known - holders == set(), "not on the page"
    optional = {name for name, _, meaning in table if meaning.startswith("Only ")}
    assert known - optional - holders - written == set(), "not written"
    assert all(kind for _, kind, _ in table)


def _starts(name):
    """Return the tables and lists that a field is in."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def test_the_lines_of_the_metrics(run):
    step, epoch = tables("metrics.jsonl")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    check(step, *(line for line in lines if line["kind"] == "step"))
    check(epoch, *(line for line in lines if line["kind"] == "epoch"))


def test_the_results(run):
    (table,) = tables("run.json")
    results = json.loads((run / "run.json").read_text())
    check(table, results)
    assert results["format"] == 1


def test_the_checkpoints(run):
    best, state = tables("checkpoints/")
    check(best, json.loads((run / "checkpoints/best.json").read_text()))
    found = json.loads((run / "checkpoints/step-00000006/state.json").read_text())
    check(state, found)
    assert (found["format"], next(kind for name, kind, _ in state if name == "format")) == (2, "2")


def test_the_trace(run):
    (table,) = tables("Traces")
    trace = json.loads((run.parent / "trace.json").read_text())
    check(table, trace)
    assert trace["otherData"]["lockstep"]["format"] == 1


def test_a_field_that_the_page_does_not_name_or_that_is_not_written_is_found():
    table = [("a", "text", ""), ("b.*.c", "text", ""), ("d", "text", "Only at times")]
    check(table, {"a": 1, "b": {"x": {"c": 1}, "y": {"c": 2}}})
    check(table, {"a": 1, "b": {"x": {"c": 1}}, "d": 3})
    for wrong in ({"a": 1, "b": {"x": {"c": 1}}, "e": 0}, {"b": {"x": {"c": 1}}}, {"a": 1, "b": {"x": {}}}):
        with pytest.raises(AssertionError):
            check(table, wrong)


def test_the_fields_of_recipes():
    head, *rows = recipe_rows()
    assert "\n".join([head, "|---|---|---|---|", *rows]) in PAGE


def recipe_rows():
    """Yield the table of a recipe's fields, as their settings describe them."""
    yield "| field | type | default | meaning |"
    defaults = dict(_defaults(Recipe))
    for each in all_settings(Recipe):
        if each.path not in ("out", "trace"):
            meaning = (each.setting.help or "").replace("|", "\\|")
            allowed = ", ".join(f'"{choice}"' for choice in each.setting.choices)
            kind = f"{_type(each.kind)}{f': {allowed}' if allowed else ''}"
            yield f"| `{each.path}` | {kind} | {_shown(defaults[each.path])} | {meaning} |"


def _type(kind):
    if get_origin(kind) is dict:
        return "table"
    if get_origin(kind) is tuple:
        return {str: "list of texts"}.get(get_args(kind)[0], "list of numbers")
    return " or ".join(map(_type, get_args(kind))) if get_args(kind) else TYPES[kind].removeprefix("a ")


def _defaults(kind, prefix=""):
    for each in fields(kind):
        inside = each.default_factory
        if isinstance(inside, type) and is_dataclass(inside):
            yield from _defaults(inside, f"{prefix}{each.name}.")
        else:
            yield f"{prefix}{each.name}", each.default if inside is MISSING else inside()


def _shown(default):
    return f"`{json.dumps(default)}`" if default not in ("", (), {}) else ""
