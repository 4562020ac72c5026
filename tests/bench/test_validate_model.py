"""The truth test of the simulator: what is run, and what is said about it."""

import pytest

from bench import calibrate, validate_model
from bench.places import Place
from bench.validate_model import Row, chosen, designs, line, main, summarise
from engine.models import MODELS


def row(predicted, measured, *, plan="data", overlap=True, model="vgg_a"):
    return Row(model, "2x1", plan, overlap, predicted, measured)


ROWS = [
    row(1.1, 1.0),
    row(1.8, 2.0, overlap=False),
    row(0.7, 1.0, plan="fc6=2"),
    row(50.0, None, model="cd_dnn"),
]


def test_the_summary_counts_what_was_measured():
    summary = summarise(ROWS)
    assert summary["cases"] == 3
    assert summary["median_off_by"] == pytest.approx(0.1)
    assert summary["worst_off_by"] == pytest.approx(0.3)
    assert summary["worst"] == "vgg_a 2x1 plan fc6=2, overlap on"
    assert summarise([row(1.0, None)])["cases"] == 0


def test_the_plan_chosen_is_judged_by_what_was_measured():
    assert chosen(ROWS) == [{"model": "vgg_a", "place": "2x1", "plan": "fc6=2", "over_best": 1.0}]
    other = [row(1.0, 1.2), row(2.0, 1.0, plan="fc6=2")]
    assert chosen(other)[0] == {"model": "vgg_a", "place": "2x1", "plan": "data", "over_best": 1.2}


def test_rows_say_what_was_predicted_and_measured():
    assert line(ROWS[0]).endswith("+10.0%")
    assert "too long" in line(ROWS[3])


@pytest.mark.parametrize("model", validate_model.BATCHES)
@pytest.mark.parametrize("place", ["2x1", "4x1@1gbit"])
def test_every_design_fits_its_network_and_is_handed_to_the_ranks_whole(model, place):
    for point in designs(model, Place.parse(place)):
        point.plan.check(MODELS[model](), point.ranks)
        told = calibrate.read_design(calibrate.text_of(point), point.ranks)
        assert (told.model, told.batch, told.plan, told.threads) == (model, point.batch, point.plan, 1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["vgg"], "model: got 'vgg'"), (["--place", "two"], "place: got 'two'"), (["--steps", "1"], "steps")],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments, said, capsys):
    assert main(arguments) == 2
    printed = capsys.readouterr().err
    assert said in printed
    assert printed.count("\n") == 1
