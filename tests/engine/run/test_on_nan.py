"""Steps whose loss or gradients are not finite: skipped without a trace, or ignored."""

import json
from dataclasses import replace

import numpy as np
import pytest

from engine.config.recipe import OptimizerFields
from engine.data.dataset import DataSource
from engine.run.checkpoint import read_state, read_tensors
from engine.run.failures import RunEndedError
from engine.run.finding import find_checkpoint
from engine.run.kept_checkpoints import checkpoints_of
from engine.run.on_nan import MOST_SKIPPED
from tests.engine.cluster import changed, train
from tests.engine.graphs import normed, perceptron
from tests.engine.run.test_failures import HUGE, Poisoned


def source(graph, *, good=1, bad=1):
    drawn = Poisoned.draw(graph.input_shape, graph.output_shape[0], 64)
    return DataSource(replace(drawn, value=HUGE, good=good, bad=bad), None)


def records(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


OPTIMIZERS = {
    "sgd": OptimizerFields(momentum=0.9, weight_decay=1e-3),
    "clipped": OptimizerFields(momentum=0.9, clip_norm=0.5),
    "adamw": OptimizerFields("adamw", weight_decay=0.1),
    "lamb": OptimizerFields("lamb", weight_decay=0.1),
}


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_step_that_is_skipped_leaves_weights_and_state_as_they_were(tmp_path, kind):
    graph, hashes = normed(), set()
    for ranks, accumulate in ((1, 1), (1, 2), (2, 1)):
        recipe = changed(
            steps=9, norm_groups=2, accumulate=accumulate, on_nan="skip", hash_every=1, ema=0.9,
            optimizer=OPTIMIZERS[kind],
        )  # fmt: skip
        folder = tmp_path / f"{ranks}-{accumulate}"
        results, weights = train(ranks, graph, recipe, data=source(graph), folder=folder)
        steps = records(folder)
        (place,) = (place for place, record in enumerate(steps) if record.get("skipped"))
        before, skipped, after = steps[place - 1 : place + 2]
        assert skipped["loss"] is None
        assert skipped["gradient_norm"] is None
        for name in ("weights_sha256", "state_sha256"):
            assert skipped[name] == before[name] != after[name]
        assert np.isfinite(results["final_loss"])
        assert all(np.isfinite(array).all() for array in weights.values())
        hashes.add((results["weights_sha256"], results["state_sha256"]))
    assert len(hashes) == 1


def test_skipping_changes_no_bit_of_a_run_whose_numbers_are_finite():
    graph = normed()
    usual, skipping = (
        train(2, graph, changed(norm_groups=2, on_nan=what))[0]["weights_sha256"] for what in ("stop", "skip")
    )
    assert usual == skipping


def test_a_run_that_skips_every_step_ends(tmp_path):
    recipe = changed(steps=200, batch=64, on_nan="skip")
    steps = MOST_SKIPPED + 1
    wanted = rf"^step {steps}: the gradients of {steps} steps in a row are not finite; a lower --lr"
    with pytest.raises(RunEndedError, match=wanted):
        train(2, perceptron(), recipe, data=source(perceptron(), good=0, bad=np.inf), folder=tmp_path)


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_run_that_ignores_it_goes_on_and_saves_no_weights_that_are_not_finite(tmp_path, ranks, capsys):
    recipe = changed(steps=9, on_nan="ignore", checkpoint_steps=1, keep_checkpoints=9)
    train(ranks, perceptron(), recipe, data=source(perceptron()), folder=tmp_path)
    steps = records(tmp_path)
    last = next(record["step"] for record in steps if record["loss"] is None)
    assert [record["step"] for record in steps] == list(range(1, 10))
    assert steps[-1]["loss"] is None
    assert len(checkpoints_of(tmp_path)) == last - 1
    said = capsys.readouterr().err
    assert said.count(f'step {last}: the loss is nan; the run goes on, as on_nan = "ignore" says') == 1
    assert "is not finite: no checkpoint is written" in said


def test_a_run_that_has_stopped_goes_on_without_the_step(tmp_path):
    graph, recipe = perceptron(), changed(steps=9, checkpoint_steps=1)
    with pytest.raises(RunEndedError):
        train(2, graph, recipe, data=source(graph), folder=tmp_path / "run")
    saved = find_checkpoint(tmp_path / "run")
    skipping = replace(recipe, on_nan="skip")
    again = train(
        1,
        graph,
        skipping,
        data=source(graph, good=0),
        restore=(read_state(saved), read_tensors(saved, graph)),
    )
    assert again[0]["weights_sha256"] == train(2, graph, skipping, data=source(graph))[0]["weights_sha256"]
