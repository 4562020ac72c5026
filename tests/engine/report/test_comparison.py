"""What is the same in several runs, and what differs."""

import pytest

from engine.report import comparison, time_spent
from engine.report.run_record import read_runs
from tests.engine.report.written import RECIPE, RESULTS, write_run


def runs(folder, *many):
    """Write runs with these arguments, and read them."""
    return read_runs([str(write_run(folder / str(place), **each)) for place, each in enumerate(many)])


def test_fields_of_the_recipe_that_differ_come_first(tmp_path):
    other = RECIPE.replace("rate = 0.05", "rate = 0.1") + 'extra = "</b>"\n'
    rows = comparison.recipes(runs(tmp_path, {}, {"recipe": other}))
    assert [row.name for row in rows if row.differs] == ["schedule.rate", "schedule.extra"]
    told = {row.name: row.values for row in rows}
    assert told["schedule.rate"] == ("0.05", "0.1")
    assert told["schedule.extra"] == ("\N{EN DASH}", '"</b>"')
    assert told["schedule.milestones"] == ("[2, 3]", "[2, 3]")
    assert rows[0].differs
    assert not rows[-1].differs


def test_results_are_told_also_of_a_run_without_them(tmp_path):
    rows = {row.name: row.values for row in comparison.results(runs(tmp_path, {}, {"results": None}))}
    assert rows["state"] == ("done", "no results yet")
    assert rows["test accuracy"][0] == "93.8 %"
    assert rows["test accuracy"][1] == "99.0 %", "of its last evaluation"
    assert rows["steps"] == ("40", "40")
    assert rows["time of the session"] == ("1 min 23 s", "\N{EN DASH}")
    assert rows["best test accuracy"] == ("99.0 % (epoch 4)",) * 2
    assert rows["network"] == ("digits", "digits"), "from the recipe"


def test_environments_and_hashes(tmp_path):
    environment = {**RESULTS["environment"], "numpy": "2.2.0"}
    found = runs(tmp_path, {}, {"results": {**RESULTS, "environment": environment}})
    rows = {row.name: row for row in comparison.environments(found)}
    assert rows["numpy"].values == ("2.1.0", "2.2.0")
    assert rows["numpy"].differs
    assert not rows["Python"].differs
    assert rows["SIMD"].values[0] == "avx2"
    assert rows["memory of a rank, measured"].values[0] == "100 to 110 GB/s"
    assert [row.name for row in comparison.hashes(found)] == ["weights (sha256)"]


def test_layers_are_told_with_what_was_predicted(tmp_path):
    (run,) = runs(tmp_path, {})
    conv, linear = time_spent.layer_times(run)
    assert (conv.name, conv.kind, conv.ratio) == ("conv1", "Conv2d", 2.0)
    assert linear.measured_seconds == 0.0011
    assert conv.flops_per_s == 3e7 * 2 / 0.0009
    assert time_spent.peak_flops_per_s(run) == 2e11
    assert sum(time_spent.parts(run).values()) == time_spent.step_seconds(run)


def test_a_run_of_an_earlier_version_has_no_layers(tmp_path):
    old = {name: RESULTS[name] for name in ("model", "steps", "final_loss")}
    (run,) = runs(tmp_path, {"results": old})
    assert time_spent.layer_times(run) == []
    assert time_spent.parts(run) == {}
    assert time_spent.step_seconds(run) is None
    assert comparison.environments([run]) == []


def test_all_that_is_told_of_the_results(tmp_path):
    (run,) = runs(tmp_path, {})
    assert {row.name: row.values[0] for row in comparison.results([run])} == {
        "state": "done", "network": "digits", "data": "digits", "steps": "40", "epochs": "4",
        "test accuracy": "93.8 %", "test loss": "0.25", "best test accuracy": "99.0 % (epoch 4)",
        "loss of the last step": "0.5", "samples/s, median": "25,000", "a step, median": "2.50 ms",
        "time of the session": "1 min 23 s", "ranks x threads": "2 x 1", "parameters": "62,250",
        "training samples": "640", "test samples": "360", "ended": "2026-11-28 00:25",
    }  # fmt: skip


def test_of_two_equal_accuracies_the_first_is_the_best(tmp_path):
    (run,) = runs(tmp_path, {"steps": 30})
    run.epochs.values["test_accuracy"][:] = 0.5, 0.75, 0.75
    assert comparison.results([run])[7].values == ("75.0 % (epoch 2)",)


def test_an_environment_may_have_numbers_and_recipes_letters_of_any_language(tmp_path):
    recipe = 'model = "\N{LATIN SMALL LETTER U WITH DIAERESIS}"\nwhen = 2026-11-28\n'
    (run,) = runs(tmp_path, {"recipe": recipe})
    assert [row.values[0] for row in comparison.recipes([run])] == [
        '"\N{LATIN SMALL LETTER U WITH DIAERESIS}"',
        '"2026-11-28"',
    ]
    told = {row.name: row.values[0] for row in comparison.environments([run])}
    assert (told["machines"], told["cores for ranks of a machine"]) == ("1", "2")
    assert told["peak of a rank, measured"] == "200 GFLOP/s"


def test_a_layer_that_multiplies_nothing_has_no_speed(tmp_path):
    where = {**RESULTS["where_the_time_went"], "seconds_by_layer": {"relu": {"forward": 0.001}}}
    (run,) = runs(tmp_path, {"results": {**RESULTS, "where_the_time_went": where, "predicted": None}})
    (relu,) = time_spent.layer_times(run)
    assert (relu.flop, relu.flops_per_s, relu.ratio, relu.predicted_seconds) == (0.0, None, None, None)


def test_all_layers_are_the_sum_of_each(tmp_path):
    (run,) = runs(tmp_path, {})
    total = time_spent.total(time_spent.layer_times(run))
    assert total.measured == pytest.approx({"forward": 5e-4, "backward_weights": 1e-3, "backward_data": 5e-4})
    assert total.predicted_seconds == pytest.approx(0.00075)
    assert total.flop == pytest.approx(3e7 * 2 + 1e7 * 3)


def test_the_words_of_the_table_are_told(tmp_path):
    (run,) = runs(tmp_path, {})
    assert time_spent.said(run) == [
        "compute of the slowest rank, 0: 2.00 ms, 1.00 x the mean",
        "communication alone, with nothing to compute: 2.00 ms a step; 50% of it hidden behind computation",
    ]
