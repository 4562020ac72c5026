"""Loss and accuracy of a minibatch, on any number of ranks, beside the float64 reference."""

import numpy as np
import pytest

from comm.collectives import Collectives
from comm.comm_thread import InlineCommThread
from comm.grid import Grid
from comm.threads import run_ranks
from comm.tree import Tree
from engine.data.loader import Batch
from engine.graph import GraphBuilder
from engine.graph.parallel.plan import Plan
from engine.training.loss import Outcome
from engine.training.rank import build_rank
from engine.training.rank_settings import RankSettings
from layers.kernels.threads import Threads
from layers.layer import Context
from layers.linear import Linear
from layers.reference import softmax_cross_entropy

BATCH, LEAVES, CLASSES = 16, 8, 5


def losses(ranks, *, stopping=(), labels=None, weights=None, training=True):
    """Return each rank's outcome and gradient of drawn logits."""
    generator = np.random.default_rng(3)
    logits = generator.standard_normal((BATCH, CLASSES)).astype(np.float32)
    labels = generator.integers(0, CLASSES, BATCH).astype(np.int32) if labels is None else labels
    net = GraphBuilder((3,))
    net.add("fc1", Linear(CLASSES))

    def rank(world):
        grid = Grid.of(Collectives(world, Tree.of(ranks, LEAVES)), 1)
        made = build_rank(net.graph(), RankSettings(BATCH, 1), Plan(), grid, InlineCommThread())
        own = made.memory.own_samples
        made.memory.output[:, :CLASSES] = logits[own]
        batch = Batch(np.zeros((0, 3), np.float32), labels[own], np.arange(own.start, own.stop), 0)
        made.loss.weigh(weights)
        context = Context(Threads(1))
        context.training = training
        made.loss.backward(made.memory, batch, context)
        made.loss.submit(stop=world.rank in stopping)
        return made.loss.wait(), made.memory.output_gradient[:, :CLASSES].copy()

    return logits, labels, run_ranks(ranks, rank)


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_loss_and_gradient_are_those_of_the_reference(ranks):
    logits, labels, found = losses(ranks)
    outcomes = {outcome for outcome, _ in found}
    (outcome,) = outcomes
    exact = softmax_cross_entropy.forward(logits.astype(np.float64), labels)
    assert outcome.loss == pytest.approx(exact.sum(), rel=1e-6)
    assert outcome.correct == (logits.argmax(axis=1) == labels).sum()
    gradient = np.concatenate([own for _, own in found])
    expected = softmax_cross_entropy.backward_data(logits.astype(np.float64), labels, 1 / BATCH)
    np.testing.assert_allclose(gradient, expected, atol=1e-7)


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("training", [True, False])
def test_classes_are_weighed_in_training_and_outputs_of_no_class_have_one(ranks, training):
    logits, labels, found = losses(ranks, weights=(0.5, 2.0, 0.0), training=training)
    weights = np.array([0.5, 2.0, 0.0, 1.0, 1.0]) if training else None
    exact = softmax_cross_entropy.forward(logits.astype(np.float64), labels, weights=weights)
    assert found[0][0].loss == pytest.approx(exact.sum(), rel=1e-6)
    gradient = np.concatenate([own for _, own in found])
    expected = softmax_cross_entropy.backward_data(
        logits.astype(np.float64), labels, 1 / BATCH, weights=weights
    )
    np.testing.assert_allclose(gradient, expected, atol=1e-7)


def test_the_sum_has_the_same_bits_on_any_ranks():
    assert len({losses(ranks)[2][0][0].loss for ranks in (1, 2, 3, 4, 8)}) == 1


@pytest.mark.parametrize("stopping", [(), (0,), (2,), (0, 1, 2)])
def test_all_ranks_learn_that_one_wants_to_stop(stopping):
    *_, found = losses(3, stopping=stopping)
    assert [outcome.stop for outcome, _ in found] == [bool(stopping)] * 3


def test_absent_samples_count_for_nothing():
    *_, found = losses(2, labels=np.full(BATCH, -1, np.int32))
    for outcome, gradient in found:
        assert outcome == Outcome(0.0, 0, stop=False)
        assert not gradient.any()
