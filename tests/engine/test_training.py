"""Whole training runs: the engine against the naive trainer, and against itself bit for bit."""

import random
import time
from dataclasses import replace
from itertools import islice, pairwise
from typing import Any

import numpy as np
import pytest

from engine.config.recipe import OptimizerFields, Recipe, ScheduleFields
from engine.data.dataset import DataSource
from engine.data.loader import Loader
from engine.data.mix import Mix
from engine.data.sampler import Sampler
from engine.graph import Graph, GraphBuilder
from engine.training.rank_parameters import BUCKET_FLOATS
from layers.batch_norm import BatchNorm
from layers.conv2d import Conv2d
from layers.flatten import Flatten
from layers.group_norm import GroupNorm
from layers.kernels.threads import Threads
from layers.layer_norm import LayerNorm
from layers.linear import Linear
from tests import naive
from tests.engine.cluster import RECIPE, Samples, changed, train
from tests.engine.graphs import GRAPHS, mixed, with_dropout
from tests.engine.naive_view import naive_network, naive_network_of_step

SGD_VARIANTS = {
    "plain": OptimizerFields(momentum=0.0),
    "momentum": OptimizerFields(momentum=0.9, weight_decay=0.01),
    "nesterov": OptimizerFields(momentum=0.8, nesterov=True, weight_decay=0.001),
}


def naive_weights(
    graph: Graph, recipe: Recipe, data: Samples, initial, *, norm_groups: int = 1, **which: Any
):
    """Train the same minibatches at the same rates in float64; `which` are the naive trainer's."""
    sampler = Sampler(len(data), recipe.batch, recipe.seed)
    shares = islice(sampler.training(), recipe.steps)
    which.setdefault("class_weights", naive_class_weights(recipe, data))
    batches = [(data.x[share.samples], data.labels[share.samples]) for share in shares]
    weights = {tuple(name.rsplit(".", 1)): array for name, array in initial.items()}
    rates = [recipe.schedule.rate] * recipe.steps
    rules = {**vars(recipe.optimizer), "ema": recipe.ema, "label_smoothing": recipe.label_smoothing}
    network = naive_network(graph, norm_groups)
    losses, trained = naive.train(network, weights, batches, rates, **rules, **which)
    return losses, {".".join(name): array for name, array in trained.items()}


def naive_class_weights(recipe: Recipe, data: Samples) -> list[float] | None:
    """Return the weights of classes in the loss that the recipe asks for."""
    if recipe.class_weights == "none":
        return None
    if recipe.class_weights == "balanced":
        return naive.balanced(data.labels, data.classes)
    return naive.mean_one(recipe.class_weights, data.labels)


def untrained(graph: Graph, ranks: int = 1, **fields: Any):
    """Return the initial weights: those after a step at rate zero."""
    _, weights = train(ranks, graph, changed(steps=1, schedule=ScheduleFields(rate=0.0), **fields))
    return weights


class Late:
    """A layer that reads its weights long after backward_weights, as a large one does."""

    def backward_data(self, at, run):
        time.sleep(0.01)
        super().backward_data(at, run)


class LateConv2d(Conv2d):
    """The same, alone or fused."""

    def data_gradient(self, at, run, dy):
        time.sleep(0.01)
        super().data_gradient(at, run, dy)


class LateLinear(Late, Linear):
    pass


class LateBatchNorm(Late, BatchNorm):
    pass


class LateGroupNorm(Late, GroupNorm):
    pass


class LateLayerNorm(Late, LayerNorm):
    pass


def late(graph: Graph) -> Graph:
    """Return the graph with slow backward_data: whoever updates weights too early is seen."""
    slow = {
        Conv2d: LateConv2d,
        Linear: LateLinear,
        BatchNorm: LateBatchNorm,
        GroupNorm: LateGroupNorm,
        LayerNorm: LateLayerNorm,
    }
    nodes = tuple(
        type(node)(node.name, slow[type(node.layer)](**vars(node.layer)), node.inputs)
        if type(node.layer) in slow
        else node
        for node in graph
    )
    return Graph(graph.input_shape, nodes)


@pytest.mark.parametrize(
    ("ranks", "bucket_floats"), [(1, BUCKET_FLOATS), (2, 0), (2, 700), (4, BUCKET_FLOATS)]
)
@pytest.mark.parametrize("name", GRAPHS)
def test_training_follows_the_naive_trainer(name, ranks, bucket_floats):
    graph = late(GRAPHS[name]())
    data = Samples.draw(graph.input_shape, graph.output_shape[0], 64)
    recipe = changed(optimizer=SGD_VARIANTS["momentum"], steps=6)
    losses, want = naive_weights(GRAPHS[name](), recipe, data, untrained(graph))
    results, got = train(ranks, graph, recipe, data=DataSource(data, None), bucket_floats=bucket_floats)
    assert results["final_loss"] == pytest.approx(losses[-1], rel=1e-4)
    assert set(got) == set(want)
    for parameter, array in want.items():  # float32 against float64 over six steps
        np.testing.assert_allclose(got[parameter], array, rtol=1e-3, atol=2e-5, err_msg=parameter)


@pytest.mark.parametrize("variant", SGD_VARIANTS)
def test_every_form_of_sgd_follows_the_naive_trainer(variant):
    graph = GRAPHS["perceptron"]()
    data = Samples.draw(graph.input_shape, graph.output_shape[0], 64)
    recipe = changed(optimizer=SGD_VARIANTS[variant], steps=10)
    _, want = naive_weights(graph, recipe, data, untrained(graph))
    _, got = train(2, graph, recipe, data=DataSource(data, None))
    for parameter, array in want.items():
        np.testing.assert_allclose(got[parameter], array, rtol=1e-3, atol=1e-5, err_msg=parameter)


RULES = {
    "adamw": {"optimizer": OptimizerFields("adamw", weight_decay=0.1, clip_norm=1.0), "ema": 0.9},
    "exempt": {"optimizer": OptimizerFields(weight_decay=0.1, decay_exempt=("*.bias", "fc1.*"))},
    "lars": {"optimizer": OptimizerFields("lars", weight_decay=0.01, trust_coefficient=0.1)},
    "lars exempt": {
        "optimizer": OptimizerFields(
            "lars", weight_decay=0.1, trust_coefficient=0.1, decay_exempt=("*.bias",), clip_norm=2.0
        ),
        "label_smoothing": 0.2,
    },
    "lamb": {
        "optimizer": OptimizerFields(
            "lamb", betas=(0.8, 0.9), eps=1e-4, weight_decay=0.1, decay_exempt=("fc2.bias",)
        ),
        "label_smoothing": 0.1,
    },
    "clipped": {"optimizer": OptimizerFields(clip_norm=0.5, nesterov=True)},
    "average": {"ema": 0.75},
    "smooth": {"label_smoothing": 0.3},
    "balanced": {"class_weights": "balanced"},
    "weighted": {"class_weights": (4, 1.0, 0.5, 0.0, *[2.0] * 6), "label_smoothing": 0.2},
}
"""Fields of recipes with other rules than plain SGD; of weights of classes, the first ones."""


def with_rules(name: str, graph: Graph, **fields: Any) -> Recipe:
    """Return the recipe of such rules for a graph."""
    recipe = changed(**fields, **RULES[name])
    if not isinstance(recipe.class_weights, tuple):
        return recipe
    return changed(recipe, class_weights=recipe.class_weights[: graph.output_shape[0]])


@pytest.mark.parametrize("rules", RULES)
def test_every_rule_follows_the_naive_trainer(rules):
    graph = GRAPHS["perceptron"]()
    data = Samples.draw(graph.input_shape, graph.output_shape[0], 64)
    recipe = with_rules(rules, graph, steps=12, schedule=ScheduleFields(rate=0.02))
    initial = untrained(graph)
    losses, want = naive_weights(graph, recipe, data, initial)
    for ranks in (1, 3):
        results, got = train(ranks, late(graph), recipe, data=DataSource(data, None), bucket_floats=700)
        assert results["final_loss"] == pytest.approx(losses[-1], rel=1e-4)
        for parameter, array in want.items():  # float32 against float64 over twelve steps
            np.testing.assert_allclose(got[parameter], array, rtol=1e-3, atol=2e-5, err_msg=parameter)
    _, plain = naive_weights(graph, changed(steps=12, schedule=recipe.schedule), data, initial)
    assert max(np.abs(plain[name] - want[name]).max() for name in want) > 1e-3  # the rule can be seen


@pytest.mark.parametrize("class_weights", ["none", (0.5, 2.0, 1.0, 0.0, 3.0, 1.0)])
def test_mixed_samples_follow_the_naive_trainer(class_weights):
    graph = GRAPHS["chain"]()
    data = Samples.draw(graph.input_shape, graph.output_shape[0], 64)
    recipe = changed(steps=6, mixup=1.0, cutmix=0.5, label_smoothing=0.1, class_weights=class_weights)
    initial = {tuple(name.rsplit(".", 1)): array for name, array in untrained(graph).items()}
    shares = islice(Sampler(len(data), recipe.batch, recipe.seed).training(), recipe.steps)
    batches = []
    with Loader(data, shares, mix=Mix(1.0, 0.5), seed=recipe.seed) as loader:
        for batch in loader:
            one_hot = np.eye(graph.output_shape[0])
            part = batch.shares[:, None]
            wanted = part * one_hot[batch.labels] + (1 - part) * one_hot[batch.other_labels]
            batches.append((batch.x.copy(), wanted))
    rates = [recipe.schedule.rate] * recipe.steps
    losses, want = naive.train(
        naive_network(graph), initial, batches, rates, momentum=0.9, label_smoothing=0.1,
        class_weights=naive_class_weights(recipe, data),
    )  # fmt: skip
    for ranks in (1, 3):
        results, got = train(ranks, graph, recipe, data=DataSource(data, None))
        assert results["final_loss"] == pytest.approx(losses[-1], rel=1e-4)
        for (node, parameter), array in want.items():  # float32 against float64 over six steps
            np.testing.assert_allclose(got[f"{node}.{parameter}"], array, rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("sampling", ["balanced", (0.5, 2.0, 1.0, 0.0, 3.0, 1.0)])
def test_samples_drawn_by_weight_follow_the_naive_trainer(sampling):
    graph = GRAPHS["chain"]()
    data = Samples.draw(graph.input_shape, graph.output_shape[0], 64)
    recipe = changed(steps=6, sampling=sampling)
    weights = naive.balanced(data.labels, 6) if sampling == "balanced" else sampling
    batches = []
    for epoch in range(2):
        words = np.random.Philox(key=[recipe.seed, 6], counter=[0, 0, 0, epoch]).random_raw(128)
        order = np.array(naive.drawn_samples(data.labels, weights, words))
        batches += [(data.x[rows], data.labels[rows]) for rows in np.split(order, 4)]
    initial = {tuple(name.rsplit(".", 1)): array for name, array in untrained(graph).items()}
    rates = [recipe.schedule.rate] * recipe.steps
    losses, want = naive.train(naive_network(graph), initial, batches[:6], rates, momentum=0.9)
    for ranks in (1, 3):
        results, got = train(ranks, graph, recipe, data=DataSource(data, None))
        assert results["final_loss"] == pytest.approx(losses[-1], rel=1e-4)
        for (node, parameter), array in want.items():  # float32 against float64 over six steps
            np.testing.assert_allclose(got[f"{node}.{parameter}"], array, rtol=1e-3, atol=2e-5)


def test_bits_of_drawn_and_mixed_samples_do_not_depend_on_ranks_or_microbatches():
    graph = with_dropout()
    fields = {"sampling": "balanced", "class_weights": "balanced", "mixup": 0.5, "label_smoothing": 0.1}
    found = set()
    for ranks, accumulate in ((1, 1), (1, 4), (2, 2), (4, 1)):
        results, _ = train(ranks, graph, changed(accumulate=accumulate, **fields))
        found.add((results["weights_sha256"], results["final_loss"]))
    assert len(found) == 1


def test_weights_of_classes_are_no_part_of_the_test_loss():
    graph = GRAPHS["perceptron"]()
    data = Samples.draw(graph.input_shape, 5, 64)
    still = changed(steps=1, schedule=ScheduleFields(rate=0.0))
    plain, weighed = (
        train(2, graph, changed(still, class_weights=weights), data=DataSource(data, data))[0]
        for weights in ("none", (0.0, 1.0, 2.0, 3.0, 4.0))
    )
    assert weighed["test_loss"] == plain["test_loss"]
    assert weighed["final_loss"] != plain["final_loss"]


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("make", [GRAPHS["residual"], mixed])
def test_the_bits_of_every_rule_do_not_depend_on_ranks_buckets_or_plan(make, rules):
    graph = make()
    recipe = with_rules(rules, graph)
    if rules == "exempt":
        recipe = changed(optimizer=OptimizerFields(weight_decay=0.1, decay_exempt=("*.bias", "conv1.*")))
    if rules == "lamb":
        recipe = changed(recipe, optimizer=replace(recipe.optimizer, decay_exempt=("conv2.bias",)))
    plans = ("data", "fc4=2,fc5=2") if make is mixed else ("data", "data")
    found = set()
    for ranks, plan, bucket_floats in ((1, 0, 700), (2, 1, 0), (3, 0, 1 << 16), (4, 1, 700)):
        results, _ = train(
            ranks, graph, changed(recipe, plan=plans[plan], overlap=ranks != 2),
            bucket_floats=bucket_floats, ranks_per_host=2 * plan + 1,
        )  # fmt: skip
        found.add((results["weights_sha256"], results["final_loss"]))
    assert len(found) == 1


@pytest.mark.parametrize("ranks", [1, 2])
def test_dropout_follows_the_naive_trainer_with_the_reference_masks(ranks):
    graph = with_dropout()
    data = Samples.draw(graph.input_shape, graph.output_shape[0], 64)
    recipe = changed(optimizer=SGD_VARIANTS["plain"], steps=4)
    weights = {tuple(name.rsplit(".", 1)): array for name, array in untrained(graph).items()}
    for step, share in enumerate(islice(Sampler(64, recipe.batch, recipe.seed).training(), recipe.steps)):
        network = naive_network_of_step(graph, recipe.seed, step, share.samples)
        batch = data.x[share.samples], data.labels[share.samples]
        losses, weights = naive.train(network, weights, [batch], [recipe.schedule.rate])
    results, got = train(ranks, graph, recipe, data=DataSource(data, None))
    assert results["final_loss"] == pytest.approx(losses[-1], rel=1e-4)
    for (node, parameter), array in weights.items():  # float32 against float64 over four steps
        np.testing.assert_allclose(got[f"{node}.{parameter}"], array, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("make", [*GRAPHS.values(), with_dropout])
def test_the_bits_do_not_depend_on_ranks_threads_or_overlap(make):
    graph = make()
    reference, _ = train(1, graph)
    for ranks, threads, overlap in [(2, 1, True), (3, 1, True), (4, 2, False), (5, 1, True), (8, 1, True)]:
        results, _ = train(ranks, graph, changed(overlap=overlap), threads=threads)
        assert results["weights_sha256"] == reference["weights_sha256"], (ranks, threads, overlap)
        assert results["final_loss"] == reference["final_loss"]


def test_the_bits_do_not_depend_on_when_messages_arrive():
    graph = late(GRAPHS["residual"]())
    reference, _ = train(1, graph, changed(overlap=False))
    draw = random.Random(3)
    for ranks_per_host in (1, 2, 4):
        results, _ = train(
            4, graph, delays=lambda: time.sleep(draw.random() * 2e-3), ranks_per_host=ranks_per_host
        )
        assert results["weights_sha256"] == reference["weights_sha256"]


@pytest.mark.parametrize("name", ["residual", "branches"])
def test_the_bits_do_not_depend_on_which_thread_does_what_when(monkeypatch, name):
    reference, _ = train(1, GRAPHS[name]())
    draw, given = random.Random(6), set[int]()

    def run(threads, kernel, tasks, _work, *arguments):
        """Do ranges of the tasks in any order, as any of the workers."""
        borders = sorted({0, tasks, *(draw.randint(0, tasks) for _ in range(3))})
        ranges = list(pairwise(borders))
        draw.shuffle(ranges)
        for first, last in ranges:
            worker = draw.randrange(threads.count)
            given.add(worker)
            kernel(worker, first, last, *arguments)

    monkeypatch.setattr(Threads, "run", run)
    for _ in range(3):
        results, _ = train(1, GRAPHS[name](), threads=3)
        assert results["weights_sha256"] == reference["weights_sha256"]
    assert given == {0, 1, 2}


def test_the_bits_do_not_depend_on_chunks_buckets_or_what_is_in_flight():
    graph = GRAPHS["residual"]()
    reference, _ = train(1, graph, changed(overlap=False))
    draw = random.Random(4)
    for ranks in (2, 3, 4, 5):
        sizes = {
            "chunk_floats": draw.choice([50, 300, 100_000]),
            "chunks_in_flight": draw.choice([1, 2, 4]),
            "bytes_in_flight": draw.choice([1, 1000, 10_000]),
            "bucket_floats": draw.choice([0, 700, 100_000]),
        }
        results, _ = train(ranks, graph, delays=lambda: time.sleep(draw.choice([0, 0, 5e-4])), **sizes)
        assert results["weights_sha256"] == reference["weights_sha256"], (ranks, sizes)


def test_other_seeds_and_leaves_give_other_bits():
    graph = GRAPHS["chain"]()
    hashes = {
        train(1, graph, recipe)[0]["weights_sha256"]
        for recipe in (RECIPE, changed(seed=2), changed(leaves=4))
    }
    assert len(hashes) == 3


def test_dropout_drops_in_training_only():
    graph = with_dropout()
    data = Samples.draw(graph.input_shape, 3, 40)
    recipe = changed(steps=2, schedule=ScheduleFields(rate=0.0))
    first, _ = train(1, graph, recipe, data=DataSource(data, data))
    second, _ = train(1, graph, changed(recipe, steps=1), data=DataSource(data, data))
    assert first["test_loss"] == second["test_loss"]
    assert first["final_loss"] != second["final_loss"]


@pytest.mark.parametrize("samples", [1, 15, 16, 37, 64])
def test_evaluation_counts_every_sample_once_on_any_number_of_ranks(samples):
    graph = GRAPHS["perceptron"]()
    training = Samples.draw(graph.input_shape, 5, 32)
    test = Samples.draw(graph.input_shape, 5, samples, seed=9)
    recipe = changed(steps=3)
    results = [train(ranks, graph, recipe, data=DataSource(training, test))[0] for ranks in (1, 2, 3, 8)]
    _, weights = train(1, graph, recipe, data=DataSource(training, None))
    logits = naive.forward(
        naive_network(graph), {tuple(n.rsplit(".", 1)): w for n, w in weights.items()}, test.x
    )["fc3"]
    assert {r["test_accuracy"] for r in results} == {(logits.argmax(axis=1) == test.labels).mean()}
    assert len({r["test_loss"] for r in results}) == 1


def test_an_epoch_takes_no_sample_twice_and_says_what_it_drops(tmp_path, capsys):
    graph = GRAPHS["perceptron"]()
    data = DataSource(Samples.draw(graph.input_shape, 5, 41), None)
    results, _ = train(2, graph, changed(steps=0, epochs=2), data=data, folder=tmp_path)
    assert results["steps"] == 4
    assert "the 9 samples of the incomplete last minibatch are dropped" in capsys.readouterr().err


def test_a_recipe_can_forbid_winograd():
    net = GraphBuilder((32, 8, 8))
    net.add("conv", Conv2d(64, 3, padding=1))
    net.add("flatten", Flatten())
    net.add("fc", Linear(3, gain=1.0))
    graph = net.graph()
    hashes = {}
    for conv in ("auto", "direct"):
        results = [train(ranks, graph, changed(conv=conv))[0] for ranks in (1, 2)]
        hashes[conv] = {result["weights_sha256"] for result in results}
        assert len(hashes[conv]) == 1
    assert hashes["auto"] != hashes["direct"]
