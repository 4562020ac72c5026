"""A new layer is one file and one reference: everything else asks it."""

import inspect
import json
from collections.abc import Callable

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from bench import check, kernels, peak, shapes
from bench.setup import prepare
from comm.threads import single_rank
from engine.config.errors import UserError
from engine.data.dataset import DataSource
from engine.graph import Graph, GraphBuilder
from engine.graph.parallel.plan import Plan
from engine.models import MODELS
from engine.planner.costs import Costs
from engine.planner.design import Design
from engine.planner.measurement.measure import measure
from engine.planner.search import search, starting_point
from engine.planner.simulation.simulator import simulate
from engine.run.checkpoint import read_state, read_tensors
from engine.run.finding import find_checkpoint
from layers.conv2d import Conv2d
from layers.flatten import Flatten
from layers.kernels import threads
from layers.linear import Linear
from layers.max_pool import MaxPool
from layers.relu import ReLU
from tests.engine.cluster import Samples, changed, train
from tests.engine.planner.clusters import cluster
from tests.engine.run.test_checkpoint import forget_sums
from tests.layers import test_layers as generic
from tests.layers.cases import Case
from tests.layers.harness import workers
from tests.toy_layer import Scale

CASE = Case(Scale(), ((17, 5, 7),), samples=4)


def network(*, scaled: bool = True) -> Graph:
    net = GraphBuilder((3, 8, 8))
    net.add("conv1", Conv2d(20, 3, padding=1))
    if scaled:
        net.add("scale1", Scale())
    net.add("relu1", ReLU())
    net.add("pool1", MaxPool(2, 2))
    net.add("conv2", Conv2d(64, 3, padding=1))
    if scaled:
        net.add("scale2", Scale())
    net.add("flatten", Flatten())
    net.add("fc3", Linear(128))
    net.add("relu3", ReLU())
    net.add("fc4", Linear(5, gain=1.0))
    return net.graph()


def data() -> DataSource:
    return DataSource(Samples.draw((3, 8, 8), 5, 64), Samples.draw((3, 8, 8), 5, 24, seed=1))


def _promises() -> list[Callable[..., None]]:
    """Return the generic tests that are made for each case, but those of layers computed in place."""
    named = [
        test for name, test in vars(generic).items() if name.startswith("test_") and "in_place" not in name
    ]
    return [test for test in named if next(iter(inspect.signature(test).parameters), "") == "case"]


@pytest.mark.parametrize("promise", _promises(), ids=lambda test: test.__name__)
def test_the_layer_keeps_every_promise(promise: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "INLINE_WORK", 0)
    _, *others = inspect.signature(promise).parameters
    promise(CASE, *(2 for _ in others))  # threads or leaves


def test_all_generic_tests_were_found() -> None:
    assert len(_promises()) >= 10


@pytest.mark.parametrize("ranks", [2, 3])
def test_training_has_the_same_weights_and_state_on_any_ranks(ranks: int) -> None:
    one, _ = train(1, network(), data=data())
    many, _ = train(ranks, network(), data=data(), threads=2)
    for figure in ("weights_sha256", "state_sha256", "final_loss", "test_loss", "test_accuracy"):
        assert many[figure] is not None
        assert many[figure] == one[figure], figure


def test_training_updates_the_state() -> None:
    early, late = (train(1, network(), changed(steps=steps))[0] for steps in (1, 2))
    assert early["state_sha256"] != late["state_sha256"]
    assert train(1, network(scaled=False))[0]["state_sha256"] is None


def test_a_resumed_run_ends_with_the_same_weights_and_state(tmp_path) -> None:
    whole, _ = train(1, network(), data=data())
    train(2, network(), changed(steps=2, checkpoint_every=1), data=data(), folder=tmp_path)
    checkpoint = find_checkpoint(tmp_path)
    restore = read_state(checkpoint), read_tensors(checkpoint, network())
    assert restore[1]["scale1.mean"].shape == (20,)
    for ranks in (1, 3):
        resumed, _ = train(ranks, network(), data=data(), restore=restore)
        for figure in ("weights_sha256", "state_sha256", "final_loss", "test_loss"):
            assert resumed[figure] == whole[figure], figure


def test_a_checkpoint_without_the_state_is_refused(tmp_path) -> None:
    train(1, network(), changed(steps=1, checkpoint_every=1), folder=tmp_path)
    path = find_checkpoint(tmp_path) / "model.safetensors"
    forget_sums(path.parent)
    save_file({name: value for name, value in load_file(path).items() if name != "scale2.mean"}, path)
    with pytest.raises(UserError, match=r"holds nothing for scale2\.mean; the model wants float32 \[64\]$"):
        read_tensors(find_checkpoint(tmp_path), network())


def test_the_planner_simulates_and_measures_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS, "toy", network)
    where = cluster()
    points = search(starting_point("toy", 2, 64, where), where)
    assert points[0].step_seconds > 0
    design = Design("toy", ranks=2, batch=64, leaves=16, plan=Plan({"fc3": 2}), threads=1)
    assert simulate(design, where).step_seconds > 0
    found = measure(single_rank(), [design], name="here", seconds=0.0)
    (row,) = [kernel for kernel in found.kernels if kernel.layer.startswith("Scale") and "20" in kernel.layer]
    assert min(row.forward, row.backward_weights, row.backward_data) > 0
    passes = Costs(found, threads=1).passes(Scale(), ((20, 8, 8),), row.samples)
    assert passes.forward == row.forward


def test_the_kernel_benchmark_checks_and_times_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measure_memory = peak.Gauge._memory
    monkeypatch.setattr(peak.Gauge, "_memory", lambda gauge, _: measure_memory(gauge, 1 << 16))
    monkeypatch.setattr(peak, "STEPS", 1000)
    problem = shapes.Problem("toy:scale", Scale(), CASE.shapes, 8)
    monkeypatch.setattr(shapes, "problems", lambda: {problem.name: problem})
    assert kernels.main(["toy", "--samples", "1", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert {row["pass"] for row in rows} == {"forward", "backward_data", "backward_weights"}
    for row in rows:
        assert row["right"]
        assert row["error"] < check.TOLERANCE
        assert row["ms"] > 0
        assert row["bound"] == "memory"


def test_the_kernel_benchmark_finds_a_wrong_result() -> None:
    setup = prepare(shapes.Problem("toy:scale", Scale(), CASE.shapes, 8), workers(1), leaves=2)
    for direction in setup.problem.passes():
        setup.run(direction)
    for direction, wrong in (
        ("forward", setup.at.y[0]),
        ("backward_data", setup.at.dx[0]),
        ("backward_weights", setup.at.gradients["scale"]),
    ):
        assert check.error(setup, direction) < check.TOLERANCE
        np.multiply(wrong, np.float32(1.001), out=wrong)
        assert check.error(setup, direction) > check.TOLERANCE
