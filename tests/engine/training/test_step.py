"""The order of a step: what reads weights runs before the job that overwrites them."""

from functools import partial

import numpy as np

from comm.collectives import Collectives
from comm.comm_thread import InlineCommThread
from comm.grid import Grid
from comm.threads import single_rank
from comm.tree import Tree
from engine.data.loader import Batch
from engine.graph.parallel.plan import Plan
from engine.profile.recorder import Recorder
from engine.profile.timed_layer import timed
from engine.training.bucket import USUAL_FORM
from engine.training.rank import build_rank
from engine.training.rank_settings import RankSettings
from engine.training.step import forward, train_step
from engine.training.update import NOTHING, UpdateForm
from layers.kernels.threads import Threads
from layers.layer import Context
from tests.engine.graphs import perceptron

BATCH = Batch(np.ones((8, 12), np.float32), np.zeros(8, np.int32), np.arange(8), 0)


def recorded(*, bucket_floats=0, form=USUAL_FORM, **given):
    """Take a step; return its passes and jobs in their order, and its outcome."""
    recorder = Recorder(keep=True)
    queue = InlineCommThread(on_span=recorder.communication)
    grid = Grid.of(Collectives(single_rank(), Tree.of(1, 4)), 1)
    settings = RankSettings(8, 1, bucket_floats=bucket_floats, form=form)
    rank = build_rank(perceptron(), settings, Plan(), grid, queue, wrap=partial(timed, recorder=recorder))
    rank.initialise(1)
    outcome = train_step(rank, (BATCH,), Context(Threads(1)), NOTHING, **given)
    return [span.name for span in recorder.spans if span.attributes.get("kind") != "exchange"], outcome


def test_weights_are_overwritten_after_the_last_pass_that_reads_them():
    events, _ = recorded()
    backward = events[events.index("gather loss") + 1 :]
    assert backward == [
        "fc3 backward_weights",
        "reduce fc3",
        "fc3 backward_data",
        "update fc3",
        "sigmoid2 backward_data",
        "fc2 backward_weights",
        "reduce fc2",
        "fc2 backward_data",
        "update fc2",
        "relu1 backward_data",
        "fc1 backward_weights",
        "reduce fc1",
        "update fc1",
    ]


def test_a_bucket_is_reduced_and_updated_after_all_its_members():
    events, _ = recorded(bucket_floats=1 << 20)
    assert events[-3:] == ["fc1 backward_weights", "reduce fc1..fc3", "update fc1..fc3"]


def test_norms_of_tensors_come_between_a_bucket_s_reduce_and_its_update():
    events, _ = recorded(form=UpdateForm(per_tensor=True))
    at = events.index("reduce fc2")
    assert events[at : at + 4] == ["reduce fc2", "fc2 backward_data", "norms of fc2", "update fc2"]


def test_clipping_holds_all_updates_back_until_the_norm_of_all_gradients_is_there():
    events, _ = recorded(form=UpdateForm(holds_back=True))
    assert events[-5:-3] == ["measure gradients", "norm of gradients"]
    assert events[-3:] == ["update fc3", "update fc2", "update fc1"]
    assert not any(name.startswith("update") for name in events[:-3])


def test_forward_runs_every_layer_once_and_waits_for_weights_only():
    events, _ = recorded()
    names = ["fc1", "relu1", "fc2", "sigmoid2", "fc3"]
    assert events[: len(names)] == [f"{name} forward" for name in names]


def test_the_wish_to_stop_comes_back_with_the_loss():
    for given, stop in (({}, False), ({"stop": False}, False), ({"stop": True}, True)):
        _, outcome = recorded(**given)
        assert outcome.stop is stop
        assert outcome.loss > 0


def test_forward_alone_submits_no_job():
    queue = InlineCommThread()
    grid = Grid.of(Collectives(single_rank(), Tree.of(1, 4)), 1)
    rank = build_rank(perceptron(), RankSettings(8, 1), Plan(), grid, queue)
    rank.initialise(1)
    forward(rank, BATCH, Context(Threads(1), training=False))
    assert queue.blocked_by_name == {}
    assert rank.memory.output.any()
