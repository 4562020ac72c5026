"""The page as text: what is in it, and what can never be."""

import copy
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from engine.report import charts, page, text
from engine.report.metrics import EPOCH_FIELDS, STEP_FIELDS
from engine.report.run_record import read_runs
from tests.engine.report.test_markup import NASTY
from tests.engine.report.written import RESULTS, write_run

SECTIONS = ["results", "curves", "time", "layers", "memory", "recipe", "environment"]
VOID = {"meta", "input", "br", "col", "link"}


class Page(HTMLParser):
    """Reads a page: its elements, its scripts, its text and whether all that is opened is closed."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.open, self.text, self.scripts = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif self.open and self.open[-1] != "style":
            self.text.append(data)

    @property
    def data(self):
        return json.loads(self.scripts[0])

    def sections(self):
        return [attributes["id"] for tag, attributes in self.tags if tag == "section"]


def made(*folders, steps=None):
    records = read_runs([str(folder) for folder in folders])
    return Page(page.page(records, steps or [None] * len(records)))


def test_a_page_has_a_section_for_everything_a_run_tells(tmp_path):
    found = made(write_run(tmp_path / "run"))
    assert found.sections() == SECTIONS
    assert [attributes["href"] for tag, attributes in found.tags if tag == "a"][1:] == [
        f"#{x}" for x in SECTIONS
    ]
    text = " ".join(found.text)
    for told in (
        "93.8 %", "A Processor", "ab" * 32, "share 2 cores", "Conv2d", "backward weights", "206 MB", "0.450",
        "schedule.milestones", "Open MPI v5.0.7", "conv1..fc2", "Permission is hereby granted",
    ):  # fmt: skip
        assert told in text, told
    assert list(found.data["runs"][0]["series"]) == ["loss", "accuracy", "samples_per_second", "rate"]


def test_the_page_may_fetch_nothing_and_run_its_own_scripts_only(tmp_path):
    found = made(write_run(tmp_path / "run"))
    (policy,) = [a["content"] for tag, a in found.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline" not in policy.split("style-src")[0]
    assert "http" not in policy
    names = {name for _, attributes in found.tags for name in attributes}
    assert not names & {"src", "srcset", "action", "onclick", "onload", "onerror", "data"}
    assert {tag for tag, _ in found.tags} >= {"main", "nav", "h1", "caption", "noscript"}


def nasty_run(folder, text):
    """Write a run with the same text wherever a run can hold text."""
    results = copy.deepcopy(RESULTS)
    for name in ("model", "data", "weights_sha256", "ended"):
        results[name] = text
    results["warnings"] = [text]
    results["class_names"] = [text]
    results["environment"] = dict.fromkeys(RESULTS["environment"], text) | {"processors": [text]}
    layer = {"forward": 0.001, text: 0.001}
    results["where_the_time_went"]["seconds_by_layer"] = {text: layer}
    results["where_the_time_went"]["exposed_communication_seconds_by_layer"] = {text: 0.001}
    results["predicted"]["layers"] = {text: {**layer, "kind": text, "flop": 1.0}}
    told = json.dumps(text if "\ud800" not in text and "\x00" not in text else "no TOML can hold it")
    return write_run(folder, results=results, recipe=f"model = {told}\n[arguments]\n{told} = [{told}]\n")


@pytest.mark.parametrize("text", NASTY)
def test_no_text_of_a_user_becomes_markup_or_script(tmp_path, text):
    plain = made(*(nasty_run(tmp_path / each, "plain") for each in "ab"))
    records = read_runs([str(nasty_run(tmp_path / each, text)) for each in "cd"])
    found = Page(page.page([replace(run, name=text) for run in records], [None, None]))
    assert [tag for tag, _ in found.tags] == [tag for tag, _ in plain.tags]
    assert [set(attributes) for _, attributes in found.tags] == [set(each) for _, each in plain.tags]
    assert found.scripts[1:] == plain.scripts[1:]


ODD = {
    "no test set": {"tested": False, "results": {**RESULTS, "test_loss": None, "test_accuracy": None}},
    "interrupted": {"results": {**RESULTS, "interrupted": True, "predicted": None}},
    "no steps": {"steps": 0, "results": None},
    "no steps but results": {"steps": 0},
    "one step": {"steps": 1},
    "no results yet": {"results": None},
    "no recipe": {"recipe": None},
    "an earlier version": {
        "results": {
            name: RESULTS[name] for name in ("model", "data", "steps", "final_loss", "weights_sha256")
        }
    },
    "no table": {"results": {**RESULTS, "where_the_time_went": None, "predicted": None}},
}


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_run_is_shown_alone_and_beside_another(tmp_path, odd):
    folder = write_run(tmp_path / "odd", **ODD[odd])
    alone = made(folder)
    assert "results" in alone.sections()
    assert ("curves" in alone.sections()) == ("no steps" not in odd)
    assert made(folder, write_run(tmp_path / "other")).sections() == SECTIONS


def test_what_is_odd_is_said(tmp_path):
    folder = write_run(tmp_path / "run", steps=5, results={**RESULTS, "interrupted": True})
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    lines[1] = re.sub(r'"loss": [\d.]+', '"loss": null', lines[1])
    (folder / "metrics.jsonl").write_text("\n".join([*lines, "{damaged"]))
    text = " ".join(made(folder).text)
    assert "1 line of its metrics cannot be read" in text
    assert "the loss of 1 step is not a finite number" in text
    assert "was interrupted; it goes on with --resume" in text
    assert "has no results yet" in " ".join(made(write_run(tmp_path / "b", results=None)).text)
    assert "has taken no step" in " ".join(made(write_run(tmp_path / "c", steps=0)).text)


JUNK = [None, True, -1, 1e400, "text", [], {}, [None, "a"], {"a": None}, 10**30, float("nan")]


def paths(table, above=()):
    for name, value in table.items():
        yield (*above, name)
        if isinstance(value, dict):
            yield from paths(value, (*above, name))


@pytest.mark.parametrize("junk", JUNK, ids=repr)
def test_no_field_of_run_json_can_be_junk_that_breaks_the_page(tmp_path, junk):
    write_run(tmp_path / "run")
    for path in paths(RESULTS):
        results = copy.deepcopy(RESULTS)
        inside = results
        for name in path[:-1]:
            inside = inside[name]
        inside[path[-1]] = junk
        (tmp_path / "run" / "run.json").write_text(json.dumps(results))
        made(tmp_path / "run")


def test_all_steps_are_in_the_page_while_they_fit_and_else_it_says_how_they_are_thinned(
    tmp_path, monkeypatch
):
    folder = write_run(tmp_path / "run", steps=1000)
    assert found_steps(made(folder)) == 1000
    assert "thinned" not in " ".join(made(folder).text)
    monkeypatch.setattr(charts, "MOST_VALUES", 3600)
    thinned = made(folder)
    assert found_steps(thinned) is None
    assert thinned.data["runs"][0]["series"]["loss"]["raw"]["window"] == 10
    assert "of each 10 steps or fewer, the lowest and the highest value are drawn" in " ".join(thinned.text)


def found_steps(found):
    return found.data["runs"][0]["series"]["loss"]["raw"]["x"].get("count")


def test_the_note_is_of_the_longest_run(tmp_path, monkeypatch):
    monkeypatch.setattr(charts, "MOST_VALUES", 7200)
    long, short = (write_run(tmp_path / str(steps), steps=steps) for steps in (2000, 10))
    assert charts.thinned_note(read_runs([str(long), str(short)])).startswith(
        "Long runs are thinned out: of each 20 steps or fewer"
    )
    assert charts.thinned_note(read_runs([str(short)])) is None


def test_the_controls_say_what_they_are_and_how_they_stand(tmp_path):
    found = made(write_run(tmp_path / "a"), write_run(tmp_path / "b"))
    groups = [
        attributes.get("aria-label") for tag, attributes in found.tags if attributes.get("class") == "group"
    ]
    assert groups == ["runs", "lines", None, None]
    buttons = [attributes for tag, attributes in found.tags if tag == "button"]
    assert [each.get("aria-pressed") for each in buttons] == [None, *["true"] * 5, "false", "false", None]
    assert {each["type"] for each in buttons} == {"button"}


def test_many_long_runs_fit_too(tmp_path):
    one = write_run(tmp_path / "run", steps=9_000, steps_per_epoch=1000)
    records = read_runs([str(one)] * 12)
    assert len(page.page(records, [None] * 12)) < 3_000_000


VALUES = [0, -1, 1e308, -1e308, 1e200, 1e-320, 5e-324, 1e18, 1.5, None, -0.0]


@pytest.mark.parametrize("seed", range(40))
def test_no_values_of_the_metrics_break_anything(tmp_path, monkeypatch, seed):
    rng = np.random.default_rng(seed)

    def drawn(*names):
        return {name: VALUES[rng.integers(len(VALUES))] for name in names}

    lines = []
    for number in range(1, int(rng.integers(2, 30))):
        step = int(rng.choice([number, number * 1_000_003, 2**52 - number]))
        lines.append({"kind": "step", "step": step, **drawn("epoch", *STEP_FIELDS)})
        if rng.random() < 0.3:
            lines.append({"kind": "epoch", "step": step, **drawn("epoch", *EPOCH_FIELDS)})
    write_run(tmp_path)
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    monkeypatch.setattr(charts, "MOST_VALUES", [400_000, 20][seed % 2])
    records = read_runs([str(tmp_path)])
    Page(page.page(records, [None]))
    assert text.lines(records, text.Style(80, blocks=True, colours=False))
