"""Exchanges by themselves: who is served first, and what a value looks like to its parts."""

import numpy as np
import pytest

from comm.collectives import Collectives
from comm.comm_thread import InlineCommThread
from comm.threads import run_ranks, single_rank
from comm.tree import Tree
from engine.graph.parallel.exchange import URGENT, GatherFeatures, GatherSamples, SwapFeatures
from engine.training.bucket import BEFORE_PARAMETERS
from layers.kernels.simd import LANES


def test_the_main_thread_waits_for_an_exchange_so_it_goes_before_everything_else():
    spans = []
    queue = InlineCommThread(
        on_span=lambda name, _start, _end, about: spans.append((name, about["priority"]))
    )
    layer = GatherFeatures("exchange fc6", 32, 16, Collectives(single_rank(), Tree.of(1, 1)), queue)
    layer.submit(iter(())).wait()
    assert spans == [("exchange fc6", URGENT)]
    assert URGENT < BEFORE_PARAMETERS


@pytest.mark.parametrize("kind", [GatherSamples, GatherFeatures, SwapFeatures])
def test_the_pieces_have_room_for_one_rank_in_whole_cache_lines(kind):
    def work(communicator):
        group = Collectives(communicator, Tree.of(2, 2))
        layer = kind("exchange", 3 * LANES, 2 * LANES, group, InlineCommThread())
        rows, features = layer.piece(4)
        scratch = layer.scratch(4, 4, 1, (3 * LANES, 5, 3))
        assert layer.output_shape((2 * LANES, 5, 3)) == (3 * LANES, 5, 3)
        assert scratch["out"] == scratch["in"]
        parts, floats = scratch["out"].shape
        assert parts == 2
        assert floats % 16 == 0
        assert 0 <= floats - rows * features * 15 < 16
        return rows, features // LANES

    expected = {GatherSamples: (2, 3), GatherFeatures: (4, 2), SwapFeatures: (4, 2)}[kind]
    assert run_ranks(2, work) == [expected] * 2


def test_parts_of_a_value_are_its_features_in_order_and_the_last_has_what_is_left():
    layer = GatherFeatures("x", 3 * LANES, 2 * LANES, Collectives(single_rank(), Tree.of(1, 1)), None)
    assert layer.parts == 1
    assert layer.part == 0

    def work(communicator):
        group = Collectives(communicator, Tree.of(2, 2))
        layer = GatherFeatures("x", 3 * LANES, 2 * LANES, group, InlineCommThread())
        whole = np.arange(2 * 3 * 4 * 4 * LANES, dtype=np.float32).reshape(2, 3, 4, 4, LANES)
        first, second = layer.columns(whole)
        assert (first == whole[:, :2]).all()
        assert (second == whole[:, 2:]).all()
        upper, lower = layer.rows(whole)
        assert (upper == whole[:1]).all()
        assert (lower == whole[1:]).all()

    run_ranks(2, work)
