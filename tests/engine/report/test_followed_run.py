"""A run's folder while the run goes on: it begins, grows, is cut back, ends, and goes away."""

import json
import os
import shutil

import pytest

from engine.report.followed_run import RECENT, FollowedRun, is_run, names_in
from engine.report.metrics import EPOCH, STEP
from engine.report.run_record import read_runs
from tests.engine.report.written import RESULTS, write_run


def followed(folder, **settings):
    run = FollowedRun("run", folder, **settings)
    run.refresh()
    return run


def lines_of(folder):
    return (folder / "metrics.jsonl").read_bytes().splitlines(keepends=True)


def test_a_run_that_is_followed_ends_with_what_a_report_reads(tmp_path):
    whole = write_run(tmp_path / "whole")
    folder = tmp_path / "run"
    folder.mkdir()
    run = followed(folder)
    assert (run.metrics.count(STEP), run.steps_per_epoch, run.signed_at) == (0, None, None)
    for number, line in enumerate(lines_of(whole)):
        with (folder / "metrics.jsonl").open("ab") as file:
            for piece in (line[:7], line[7:]):
                file.write(piece)
                file.flush()
                run.refresh()
        assert run.metrics.lines == number + 1
    assert run.steps_per_epoch == 10
    shutil.copy(whole / "run.json", folder)
    shutil.copy(whole / "recipe.toml", folder)
    run.refresh()
    (read,) = read_runs([str(folder)])
    record = run.record()
    assert (record.results, record.recipe, record.damaged) == (read.results, read.recipe, 0)
    for ours, theirs in ((record.steps, read.steps), (record.epochs, read.epochs)):
        assert ours.step.tolist() == theirs.step.tolist()
        assert {name: each.tolist() for name, each in ours.values.items()} == {
            name: each.tolist() for name, each in theirs.values.items()
        }


def test_the_version_changes_with_files_and_not_with_lines(tmp_path):
    folder = write_run(tmp_path / "run", results=None, recipe=None)
    run = followed(folder)
    seen = [run.version]

    def look():
        run.refresh()
        seen.append(run.version)

    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "step", "step": 41, "epoch": 4, "loss": 1.0}\n')
    look()
    assert seen[0] == seen[1]
    for name, content in (
        ("run.json", json.dumps(RESULTS)), ("recipe.toml", "epochs = 3"),
        (".lockstep.lock.json", '{"pid": 1}'), ("restarts.jsonl", '{"cause": "x"}\n'),
        ("metrics.jsonl", lines_of(folder)[0].decode()),
    ):  # fmt: skip
        (folder / name).write_text(content)
        look()
    shutil.rmtree(folder)
    look()
    assert len(set(seen)) == len(seen) - 1
    assert run.is_gone
    assert run.metrics.count(STEP) == 1, "what was known stays"


def test_lines_came_after_the_look_that_did_not_see_them(tmp_path, monkeypatch):
    folder, seen = write_run(tmp_path / "run", results=None), []
    for now in (100.0, 200.0, 300.0, 400.0):
        monkeypatch.setattr("engine.report.followed_run.time.time", lambda now=now: now)
        if not seen:
            run = followed(folder)
        else:
            run.refresh()
        seen.append(run.grown_at)
        if now == 200.0:
            with (folder / "metrics.jsonl").open("a") as file:
                file.write('{"kind": "step", "step": 41, "epoch": 4, "loss": 1.0}\n')
    assert seen == [0.0, 0.0, 200.0, 200.0]


def test_a_step_that_is_taken_once_more_counts_once(tmp_path):
    folder = write_run(tmp_path / "run", results=None)
    run = followed(folder)
    before = run.version
    with (folder / "metrics.jsonl").open("ab") as file:
        file.write(lines_of(folder)[39])
    run.refresh()
    assert run.version != before
    assert len(run.record().steps) == 40


def test_the_last_sign_of_life_is_the_newest_of_all_files(tmp_path):
    folder = write_run(tmp_path / "run")
    (folder / "checkpoints").mkdir()
    (folder / ".lockstep.lock.json").write_text("{}")
    names = ["metrics.jsonl", "run.json", "checkpoints", ".lockstep.lock.json"]
    for newest in names:
        for name in (*names, "recipe.toml"):
            os.utime(folder / name, (2e9, 2e9) if name == newest else (1e9, 1e9))
        assert followed(folder).signed_at == 2e9, newest


def test_how_long_an_epoch_is_may_be_forgotten_when_a_run_begins_anew(tmp_path):
    folder = write_run(tmp_path / "run", results=None)
    run = followed(folder)
    assert run.steps_per_epoch == 10
    (folder / "metrics.jsonl").write_bytes(b"".join(lines_of(folder)[:5]))
    run.refresh()
    assert run.steps_per_epoch is None


def test_a_run_that_goes_on_after_its_end_has_no_results_any_more(tmp_path):
    folder = write_run(tmp_path / "run")
    run = followed(folder)
    assert run.results == RESULTS
    (folder / "metrics.jsonl").write_bytes(b"".join(lines_of(folder)[:11]))
    (folder / "run.json").unlink()
    run.refresh()
    assert run.results == {}
    assert (run.metrics.count(STEP), run.metrics.count(EPOCH)) == (10, 1)


def test_a_glance_holds_little_and_knows_the_length_of_an_epoch_once_it_has_seen_it(tmp_path):
    folder = write_run(tmp_path / "run", steps=1000, results=None)
    run = followed(folder, glance=True)
    assert 10 < run.metrics.count(STEP) <= 40
    assert run.recent().step[-1] == 1000
    assert run.recipe == {"epochs": 4}
    assert run.steps_per_epoch == 10
    with (folder / "metrics.jsonl").open("a") as file:
        for step in range(1001, 1501):
            file.write(json.dumps({"kind": "step", "step": step, "epoch": 100, "loss": 1.0}) + "\n")
            if step % 50 == 0:
                file.flush()
                run.refresh()
    assert run.metrics.count(STEP) <= RECENT
    assert run.recent().step[-1] == 1500
    assert run.steps_per_epoch == 10


@pytest.mark.parametrize("name", ["metrics.jsonl", "run.json", ".lockstep.lock", ".lockstep.lock.json"])
def test_a_folder_is_a_runs_by_any_of_its_files(tmp_path, name):
    assert not is_run(names_in(tmp_path))
    (tmp_path / name).touch()
    assert is_run(names_in(tmp_path))


def test_a_folder_that_cannot_be_read_has_no_names(tmp_path):
    assert names_in(tmp_path / "none") == set()
