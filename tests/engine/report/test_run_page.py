"""The page of a run that goes on, and what it is told afterwards."""

import base64
import copy
import json
import time

import numpy as np
import pytest

from engine.report import run_page
from engine.report.charts import curves
from engine.report.followed_run import FollowedRun
from engine.report.live_section import ranks_section
from tests.engine.report.test_followed_run import followed, lines_of
from tests.engine.report.test_markup import NASTY
from tests.engine.report.test_page import Page, nasty_run
from tests.engine.report.written import RESULTS, write_run


def page(run, **settings):
    return Page(run_page.run_page(run, time.time(), **settings))


def news(run, given):
    run.refresh()
    return run_page.news(run, given, time.time())


def numbers(series):
    """Return the steps and the values of a packed series."""
    x = series["x"]
    steps = np.arange(x["count"]) + x["first"] if "first" in x else floats(x["data"])
    return steps.tolist(), floats(series["y"]).tolist()


def floats(text):
    return np.frombuffer(base64.b64decode(text), "<f4")


def grown(there, fresh):
    """Append as the page's script does: what is new replaces all from its first step on."""
    found = copy.deepcopy(there)
    for name, lines in fresh.items():
        for kind, series in lines.items():
            steps, values = numbers(series)
            old = found[name].get(kind, ([], []))
            kept = [place for place, step in enumerate(old[0]) if step < series["from"]]
            found[name][kind] = ([old[0][k] for k in kept] + steps, [old[1][k] for k in kept] + values)
    return found


def unpacked(series):
    return {name: {kind: numbers(each) for kind, each in lines.items()} for name, lines in series.items()}


@pytest.mark.parametrize("chunk", [1, 3, 7, 44])
def test_a_page_that_is_told_what_comes_shows_what_a_new_page_would(tmp_path, chunk):
    lines = lines_of(write_run(tmp_path / "whole", results=None))
    folder = tmp_path / "run"
    folder.mkdir()
    run = followed(folder)
    found = page(run).data
    at, shown = found["at"], unpacked(found["runs"][0]["series"])
    for begin in range(0, len(lines), chunk):
        with (folder / "metrics.jsonl").open("ab") as file:
            file.writelines(lines[begin : begin + chunk])
        answer = news(run, at)
        assert not answer["anew"]
        at, shown = answer["at"], grown(shown, answer["series"])
        assert shown == unpacked(curves([run.record()])[0]["series"])
    assert "series" not in news(run, at)


def test_losses_that_are_not_finite_leave_gaps(tmp_path):
    run = followed(write_run(tmp_path / "run", results=None))
    at = page(run).data["at"]
    with (run.folder / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "step", "step": 41, "epoch": 4, "loss": null, "rate": 1e999}\n')
    series = news(run, at)["series"]
    assert numbers(series["loss"]["raw"])[0] == [41.0]
    assert np.isnan(numbers(series["loss"]["raw"])[1]).all()


def test_a_run_that_ends_or_is_cut_back_asks_for_a_new_page(tmp_path):
    folder = write_run(tmp_path / "run", results=None)
    run = followed(folder)
    before = page(run)
    assert "results" not in before.sections()
    (folder / "run.json").write_text(json.dumps(RESULTS))
    assert news(run, before.data["at"])["anew"]
    after = page(run)
    come = set(after.sections()) - set(before.sections())
    assert come == {"results", "time", "layers", "memory", "environment"}
    (folder / "run.json").unlink()
    (folder / "metrics.jsonl").write_bytes(b"".join(lines_of(folder)[:5]))
    answer = news(run, after.data["at"])
    assert answer["anew"]
    assert "series" not in answer
    assert not news(run, answer["at"])["anew"]


def test_a_page_that_lacks_too_much_is_made_anew(tmp_path, monkeypatch):
    run = followed(write_run(tmp_path / "run", results=None))
    at = page(run).data["at"].rsplit(".", 2)[0]
    monkeypatch.setattr(run_page, "MOST_FRESH", 30)
    assert not news(run, f"{at}.10.0")["anew"]
    assert news(run, f"{at}.9.0")["anew"]
    assert news(run, f"{at}.41.0")["anew"]


@pytest.mark.parametrize("given", ["", "x", "1.2", "0-0-0-1-0-0-0.-1.0", "0-0-0-1-0-0-0.\u0661.0", "." * 99])
def test_a_position_of_nobody_asks_for_a_new_page(tmp_path, given):
    assert news(followed(write_run(tmp_path / "run", results=None)), given)["anew"]


def test_the_page_may_ask_its_own_server_and_nobody_else(tmp_path):
    found = page(followed(write_run(tmp_path / "run")), up="../../")
    (policy,) = [a["content"] for tag, a in found.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "connect-src 'self'" in policy
    assert "http" not in policy
    assert {"src", "srcset", "action", "onclick", "onload"}.isdisjoint(
        name for _, attributes in found.tags for name in attributes
    )
    links = [a["href"] for _, a in found.tags if "href" in a and not a["href"].startswith("#")]
    assert links == ["data:,", "../../"]


@pytest.mark.parametrize("text", NASTY)
def test_no_text_of_a_user_becomes_markup(tmp_path, text):
    losses = [{"ranks": [1], "hosts": [text], "left": 1, "step": 1}]
    pages = []
    for name, told in (("plain", "plain"), ("nasty", text)):
        folder = nasty_run(tmp_path / name, told)
        results = json.loads((folder / "run.json").read_text())
        (folder / "run.json").write_text(json.dumps(results | {"losses": [losses[0] | {"hosts": [told]}]}))
        (folder / "restarts.jsonl").write_text(json.dumps({"time": told, "cause": told}) + "\n")
        (folder / ".lockstep.lock.json").write_text(json.dumps({"pid": 1, "host": told}))
        run = FollowedRun(told, folder)
        run.refresh()
        pages.append(page(run))
    plain, nasty = pages
    assert [tag for tag, _ in nasty.tags] == [tag for tag, _ in plain.tags]
    assert [set(attributes) for _, attributes in nasty.tags] == [set(each) for _, each in plain.tags]
    assert nasty.scripts[1:] == plain.scripts[1:]


def test_what_the_script_keeps_up_to_date_is_on_the_page_and_in_the_answer(tmp_path):
    run = followed(write_run(tmp_path / "run", results=None))
    found = page(run)
    kept = {attributes["data-live"] for _, attributes in found.tags if "data-live" in attributes}
    assert kept == set(news(run, "")["facts"])
    assert {"step", "loss", "epoch", "speed", "left", "exposed", "sign", "state"} <= kept


def test_what_a_reader_must_know_is_there_when_the_run_is_over(tmp_path):
    folder = write_run(tmp_path / "run")
    found = page(followed(folder))
    assert "2 ranks x 2 threads share 2 cores; lower --threads to 1" in found.text
    assert [each["role"] for _, each in found.tags if each.get("class") == "notices"] == ["note"]
    (folder / "run.json").write_text(json.dumps({**RESULTS, "warnings": []}))
    for results in (True, False):
        assert "To note" not in page(followed(folder)).text
        if results:
            (folder / "run.json").unlink()


@pytest.mark.parametrize(("ranks", "rows"), [(1, 1), (3, 3), (128, 128), (129, 128), (4096, 128)])
def test_each_rank_has_a_row_up_to_some(tmp_path, ranks, rows):
    run = followed(write_run(tmp_path / "run", results={**RESULTS, "ranks": ranks}))
    text = ranks_section(run, time.time()).text
    assert text.count('<th scope="row">') == rows
    assert f">rank {rows - 1}<" in text
    assert ("The first 128 of" in text) == (ranks > rows)


def test_a_folder_without_a_file_has_a_page(tmp_path):
    found = page(followed(tmp_path))
    assert found.sections() == ["now", "curves", "ranks"]
    assert "starting" in " ".join(found.text)
