"""What the planner predicts of a run's layers, kept beside what was measured."""

import json

import pytest

from comm.threads import run_ranks, single_rank
from engine.data.dataset import DataSource
from engine.planner.costs import Costs
from engine.run import prediction, results
from engine.run.callbacks import Callback
from engine.run.launch import run, run_in_process
from engine.run.start import new_run
from layers.linear import Linear
from layers.work import BACKWARD_DATA, BACKWARD_WEIGHTS, FORWARD, PASSES
from tests.engine.cluster import RECIPE, Samples, train
from tests.engine.graphs import GRAPHS

CHANGES = {"epochs": 0, "steps": 6, "threads": 1, "checkpoint_every": 0}


class StopAtOnce(Callback):
    """Stops after the third step."""

    def on_step(self, run, record):
        if record["step"] == 3:
            run.stop()


def trained(folder, ranks=1, **changes):
    """Train digits for some steps; return the results of all ranks."""
    given = {**CHANGES, **changes, "out": str(folder)}
    return run_ranks(ranks, lambda world: run(world, lambda: new_run("digits", given)))


@pytest.mark.parametrize("changes", [{}, {"fuse": False}, {"plan": "fc4=2"}])
def test_every_pass_that_was_measured_is_predicted_and_no_other(tmp_path, changes):
    found = trained(tmp_path, ranks=2, **changes)[0]
    measured, predicted = found["where_the_time_went"]["seconds_by_layer"], found["predicted"]["layers"]
    assert list(measured) == list(predicted)
    for name, passes in measured.items():
        assert set(passes) == set(PASSES) & set(predicted[name]), name
    assert "conv1" in predicted
    assert BACKWARD_DATA not in predicted["conv1"]
    assert predicted["conv2" if "fuse" not in changes else "conv1"][BACKWARD_WEIGHTS] > 0
    table = found["where_the_time_went"]
    for name in PASSES:
        of_layers = sum(passes.get(name, 0.0) for passes in measured.values())
        assert of_layers == pytest.approx(table[f"{name}_seconds"])


def test_all_ranks_agree_and_the_file_says_it(tmp_path):
    first, second = trained(tmp_path, ranks=2)
    assert first["predicted"] == second["predicted"]
    assert len(first["predicted"]["peak_flops_per_second_by_rank"]) == 2
    assert json.loads((tmp_path / "run.json").read_text())["predicted"] == first["predicted"]


def test_the_seconds_are_the_planners_and_the_mean_of_the_ranks():
    graph = GRAPHS["chain"]()
    data = DataSource(Samples.draw(graph.input_shape, graph.output_shape[0], 64), None)
    found, _ = train(2, graph, RECIPE, data=data)
    predicted = found["predicted"]
    # No convolution: it is fused with what follows, and moves fewer bytes then.
    name, node = next((node.name, node) for node in graph if isinstance(node.layer, Linear))
    shapes = graph.input_shapes(node)
    assert predicted["layers"][name]["flop"] == RECIPE.batch / 2 * node.layer.extents(*shapes).flops
    nominal = [
        Costs(prediction._machine(prediction.QuickRates(flops, memory, 1), 1), threads=1)
        .passes(node.layer, shapes, RECIPE.batch // 2)
        .forward
        for flops, memory in zip(
            predicted["peak_flops_per_second_by_rank"],
            predicted["memory_bytes_per_second_by_rank"],
            strict=True,
        )
    ]
    assert predicted["layers"][name][FORWARD] == pytest.approx(sum(nominal) / 2)


def test_an_interrupted_run_measures_nothing(tmp_path, monkeypatch):
    def forbidden(_):
        raise AssertionError("measured")

    monkeypatch.setattr(results, "predict", forbidden)
    given = {**CHANGES, "out": str(tmp_path)}
    finished = run_in_process(single_rank(), lambda: new_run("digits", given), callbacks=[StopAtOnce()])
    assert finished.results["interrupted"]
    assert finished.results["predicted"] is None
