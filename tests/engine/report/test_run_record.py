"""What is read of a run's folder, whole and damaged."""

import json

import numpy as np
import pytest

from engine.config.errors import UserError
from engine.report.run_record import read_runs
from tests.engine.report.written import RESULTS, write_run


def test_a_run_is_read_by_its_folder_its_results_and_a_name(tmp_path):
    folder = write_run(tmp_path / "first")
    for given, name in (
        (str(folder), "first"), (str(folder / "run.json"), "first"), (f"mine={folder}", "mine"),
    ):  # fmt: skip
        (run,) = read_runs([given])
        assert (run.name, run.folder, run.state) == (name, folder, "done")
        assert (len(run.steps), len(run.epochs), run.damaged) == (40, 4, 0)
        assert run.steps_per_epoch == 10
        assert run.recipe["schedule.rate"] == 0.05


def test_a_folder_with_an_equals_sign_is_no_name(tmp_path):
    (run,) = read_runs([str(write_run(tmp_path / "a=b"))])
    assert run.name == "a=b"


def test_runs_of_one_name_get_numbers(tmp_path):
    folders = [str(write_run(tmp_path / each / "run")) for each in "abc"]
    assert [run.name for run in read_runs(folders)] == ["run", "run (2)", "run (3)"]


def test_the_mean_of_an_epoch_is_that_of_its_steps_and_what_the_run_wrote(tmp_path):
    (run,) = read_runs([str(write_run(tmp_path / "run", steps=35))])
    steps, means = run.epoch_means("loss")
    assert steps.tolist() == [10, 20, 30, 35]
    np.testing.assert_allclose(means[:3], run.epochs.values["training_loss"], rtol=1e-12)
    assert means[3] == pytest.approx(run.steps.values["loss"][30:].mean())


def test_the_speed_of_an_epoch_is_its_samples_over_its_time(tmp_path):
    (run,) = read_runs([str(write_run(tmp_path / "run", steps=20))])
    _, speeds = run.epoch_means("samples_per_second")
    assert speeds[0] == pytest.approx(640 / run.steps.values["seconds"][:10].sum())


def test_damaged_lines_are_counted_and_left_out(tmp_path):
    folder = write_run(tmp_path / "run", steps=10)
    lines = (folder / "metrics.jsonl").read_bytes().splitlines()
    junk = [
        b"", b"\xff\xfe", b"[1]", b"null", b"3", b'{"kind": "step"}', b'{"kind": "step", "step": -1}',
        b'{"kind": "step", "step": true}', b'{"kind": "step", "step": 1e400}',
        b'{"kind": "other", "step": 3}',
        b'{"kind": ["step"], "step": 3}', b"[" * 100_000, lines[3][:30],
    ]  # fmt: skip
    (folder / "metrics.jsonl").write_bytes(b"\n".join([*lines[:5], *junk, *lines[5:]]))
    (run,) = read_runs([str(folder)])
    assert (len(run.steps), run.damaged) == (10, len(junk))
    assert np.isfinite(run.steps.values["loss"]).all()


def test_of_a_step_that_came_again_the_later_record_counts_and_steps_are_in_order(tmp_path):
    write_run(tmp_path)
    records = [{"kind": "step", "step": step, "loss": loss} for step, loss in ((2, 1), (1, 5), (2, 3))]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, records)))
    (run,) = read_runs([str(tmp_path)])
    assert run.steps.step.tolist() == [1, 2]
    assert run.steps.values["loss"].tolist() == [5, 3]


def test_values_that_are_no_finite_numbers_are_missing(tmp_path):
    write_run(tmp_path)
    values = ["null", "NaN", "Infinity", "true", '"1"', "[1]", "1" + "0" * 400, "1.5"]
    lines = [f'{{"kind": "step", "step": {n}, "loss": {value}}}' for n, value in enumerate(values, start=1)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    (run,) = read_runs([str(tmp_path)])
    assert np.isnan(run.steps.values["loss"]).tolist() == [True] * 7 + [False]
    assert np.isnan(run.steps.values["rate"]).all()


def test_a_run_without_results_goes_on_or_was_cut_short(tmp_path):
    (run,) = read_runs([str(write_run(tmp_path, results=None))])
    assert run.state == "no results yet"
    assert run.steps_per_epoch == 10


def test_a_run_without_a_step_is_one(tmp_path):
    (run,) = read_runs([str(write_run(tmp_path, steps=0, results=None))])
    assert (len(run.steps), run.steps_per_epoch) == (0, None)
    assert run.epoch_means("loss")[0].size == 0


def test_a_run_that_has_stopped_early_says_so(tmp_path):
    (run,) = read_runs([str(write_run(tmp_path, results={**RESULTS, "stopped_early": True}))])
    assert run.state == "stopped early"


def test_an_interrupted_run_says_so(tmp_path):
    (run,) = read_runs([str(write_run(tmp_path, results={**RESULTS, "interrupted": True}))])
    assert run.state == "interrupted"


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("run.json", b'{"steps": 3', "run.json: is cut short or damaged"),
        ("run.json", b"", "run.json: is cut short or damaged"),
        ("run.json", b"\xff\xff{}", "run.json: is cut short or damaged"),
        ("run.json", b"[" * 100_000, "run.json: is cut short or damaged"),
        ("run.json", b"[1]", "run.json: holds no results of a run"),
        ("run.json", b"{}", "run.json: holds no results of a run"),
        ("recipe.toml", b"model = ", "recipe.toml: is no recipe"),
        ("recipe.toml", b"\xff", "recipe.toml: is no recipe"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, file, content, message):
    (write_run(tmp_path) / file).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_runs([str(tmp_path)])


@pytest.mark.parametrize(
    "given", ["{tmp}/none", "{tmp}", "name={tmp}/none", "{tmp}/none/run.json", "~nobody_"]
)
def test_what_holds_no_run_is_refused(tmp_path, given):
    with pytest.raises(UserError, match=r"run: .*(holds no run|no such home folder)"):
        read_runs([given.format(tmp=tmp_path)])


def test_the_length_of_an_epoch_follows_from_whatever_says_it(tmp_path):
    (told,) = read_runs([str(write_run(tmp_path / "a", results={**RESULTS, "steps": 44, "epochs": 2.0}))])
    assert told.steps_per_epoch == 22
    (beyond,) = read_runs(
        [str(write_run(tmp_path / "e", results={**RESULTS, "steps": 44, "epochs": 5e-324}))]
    )
    assert beyond.steps_per_epoch == 10
    (evaluated,) = read_runs([str(write_run(tmp_path / "b", results=None))])
    assert evaluated.steps_per_epoch == 10
    (stepped,) = read_runs([str(write_run(tmp_path / "c", results=None, tested=False))])
    assert stepped.steps_per_epoch == 10
    (short,) = read_runs([str(write_run(tmp_path / "d", steps=5, results=None, tested=False))])
    assert short.steps_per_epoch is None
