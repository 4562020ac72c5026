"""All runs in a folder: found, looked at as seldom as may be, and gone again."""

import json
import shutil

import pytest

from engine.report import list_page, runs_in_folder
from engine.report.followed_run import FollowedRun
from engine.report.runs_in_folder import RunsInFolder
from tests.engine.report.test_markup import NASTY
from tests.engine.report.test_page import Page
from tests.engine.report.written import write_run


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr(runs_in_folder, "_LEAST_PAUSE_S", -1e9)
    monkeypatch.setattr(runs_in_folder, "_SHARE", 1e9)


def looked(folder):
    runs = RunsInFolder(folder)
    runs.refresh()
    return runs


def address(key):
    return f"run/{key}/"


def news(runs, given):
    runs.refresh()
    return list_page.news(runs, given, address, 1e9)


def test_runs_are_found_in_the_folder_and_in_folders_there_and_never_inside_a_run(tmp_path):
    for name in ("a", "networks/b", "networks/deeper/c", ".hidden"):
        write_run(tmp_path / name)
    write_run(tmp_path / "a" / "checkpoints")
    (tmp_path / "empty").mkdir()
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / ".lockstep.lock").touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "a file").touch()
    names = {each.name for each in looked(tmp_path).runs.values()}
    assert names - {"loop/a", "loop/begun"} == {"a", "networks/b", "begun"}


def test_rows_are_told_when_they_change_and_not_again(tmp_path):
    done, going = write_run(tmp_path / "done"), write_run(tmp_path / "going", results=None)
    runs = looked(tmp_path)
    first = news(runs, "")
    assert first["all"]
    assert {row["name"]: row["state"] for row in first["rows"]} == {"done": "done", "going": "running"}
    second = news(runs, first["at"])
    assert (second["at"], second["all"], second["rows"]) == (first["at"], False, [])
    with (going / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "step", "step": 41, "epoch": 4, "loss": 0.125}\n')
    third = news(runs, second["at"])
    assert [(row["name"], row["cells"][:3]) for row in third["rows"]] == [
        ("going", ["41 of 40", "4.10 of 4", "0.125"])
    ]
    write_run(tmp_path / "new")
    fourth = news(runs, third["at"])
    assert [row["name"] for row in fourth["rows"]] == ["new"]
    shutil.rmtree(done)
    fifth = news(runs, fourth["at"])
    assert fifth["all"]
    assert {row["name"] for row in fifth["rows"]} == {"going", "new"}


@pytest.mark.parametrize("given", ["x", "1.2.3", ".", "..", "\u0661.\u0661", "1." + "9" * 5000, "-1.-1"])
def test_a_position_of_nobody_gets_everything(tmp_path, given):
    write_run(tmp_path / "a")
    assert news(looked(tmp_path), given)["all"]


def test_a_run_that_is_over_is_not_looked_into_until_its_folder_changes(tmp_path, monkeypatch):
    folder = write_run(tmp_path / "run")
    runs = looked(tmp_path)
    (key,) = runs.runs
    refreshed = []
    refresh = FollowedRun.refresh
    monkeypatch.setattr(FollowedRun, "refresh", lambda run: (refreshed.append(run.name), refresh(run)))
    runs.refresh()
    assert refreshed == []
    (folder / "run.json").unlink()
    runs.refresh()
    assert refreshed == ["run"]
    assert runs.runs[key].state.words == "running"


def test_a_few_runs_are_all_looked_at_at_once(tmp_path):
    for number in range(5):
        write_run(tmp_path / str(number), steps=1)
    assert not looked(tmp_path).is_behind


def test_the_page_of_a_list_may_ask_its_own_server(tmp_path):
    write_run(tmp_path / "a")
    found = Page(list_page.list_page(looked(tmp_path), "my runs", address, 1e9))
    (policy,) = [a["content"] for tag, a in found.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert "connect-src 'self'" in policy
    assert "my runs" in found.text
    assert found.text[found.text.index("a") :][1:4] == ["done", "40 of 40", "4.00 of 4"]
    assert any(each.startswith("1 run, 0 going on") for each in found.text)


def test_of_thousands_of_runs_a_look_takes_some_and_the_next_the_others(tmp_path, monkeypatch):
    monkeypatch.setattr(runs_in_folder, "_LOOK_S", 0.0)
    for number in range(5):
        write_run(tmp_path / str(number), steps=1)
    runs = RunsInFolder(tmp_path)
    known, at = [], ""
    for _ in range(6):
        found = news(runs, at)
        at = found["at"]
        known.append((len(found["rows"]), found["more"]))
    assert known == [(5, True), (1, True), (1, True), (1, True), (1, False), (0, False)]
    assert len(news(runs, "")["rows"]) == 5


def test_looks_leave_the_disk_alone_for_a_while(tmp_path, monkeypatch):
    monkeypatch.setattr(runs_in_folder, "_LEAST_PAUSE_S", 1e9)
    runs = looked(tmp_path)
    write_run(tmp_path / "new")
    runs.refresh()
    assert runs.runs == {}


def test_a_folder_that_is_gone_has_no_runs_and_comes_back(tmp_path):
    root = tmp_path / "root"
    write_run(root / "a")
    runs = looked(root)
    shutil.rmtree(root)
    assert news(runs, "")["about"].startswith("the folder is not there")
    root.mkdir()
    assert news(runs, "")["about"].startswith("no run so far")
    write_run(root / "a")
    assert news(runs, "")["about"].startswith("1 run, 0 going on")


def test_names_are_text_on_the_page_and_ascii_in_addresses(tmp_path):
    names = [each.replace("/", "|").replace("\x00", "").replace("\ud800", "") for each in NASTY]
    names = [*filter(None, names), "x y%2F?#&", "\udcff"]
    for name in names:
        write_run(tmp_path / name)
    runs = looked(tmp_path)
    found = Page(list_page.list_page(runs, "<b>", address, 1e9))
    assert "b" not in [tag for tag, _ in found.tags]
    links = [each["href"] for _, each in found.tags if each.get("href", "").startswith("run/")]
    assert len(links) == len(names)
    for link in links:
        assert link.isascii()
        assert link.count("/") == 2
        assert not set(link) & set("\"'<>?#& ")
    assert json.dumps(news(runs, ""), allow_nan=False).isascii()
