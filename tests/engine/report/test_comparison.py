"""What is the same in several runs, and what differs."""

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
    assert rows["time in all"] == ("1 min 23 s", "\N{EN DASH}")
    assert rows["best test accuracy"] == ("99.0 % (epoch 4)",) * 2
    assert rows["network"] == ("digits", "digits"), "from the recipe"


def test_environments_and_hashes(tmp_path):
    environment = {**RESULTS["environment"], "numpy": "2.2.0"}
    found = runs(tmp_path, {}, {"results": {**RESULTS, "environment": environment}})
    rows = {row.name: row for row in comparison.environments(found)}
    assert rows["numpy"].values == ("2.1.0", "2.2.0")
    assert rows["numpy"].differs
    assert not rows["Python"].differs
    assert rows["fused multiply-add"].values[0] == "yes"
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
