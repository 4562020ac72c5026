"""Which nodes share a bucket, and when its jobs start."""

import pytest

from comm.collectives import Collectives
from comm.comm_thread import InlineCommThread
from comm.grid import Grid
from comm.threads import single_rank
from comm.tree import Tree
from engine.graph import GraphBuilder
from engine.training.rank_parameters import RankParameters
from engine.training.update import NOTHING
from layers.linear import Linear
from layers.relu import ReLU


def model(bucket_floats: int, queue: InlineCommThread) -> RankParameters:
    """Return nodes of 96, 320, 1088 and 64 floats or a little more, as padding goes; only fc3 is large."""
    net = GraphBuilder((2,))
    for number, width in enumerate((16, 16, 64, 1), start=1):
        net.add(f"fc{number}", Linear(width))
        net.add(f"relu{number}", ReLU())
    grid = Grid.of(Collectives(single_rank(), Tree.of(1, 4)), 1)
    return RankParameters(net.graph(), grid, queue, bucket_floats=bucket_floats)


def jobs(bucket_floats: int) -> list[str]:
    """Return the names of the jobs of a backward pass, in their order."""
    queue = InlineCommThread()
    parameters = model(bucket_floats, queue)
    for node in reversed(list(parameters)):
        node.submit_reduce()
        node.submit_update(NOTHING)
    return list(queue.blocked_by_name)


@pytest.mark.parametrize(
    ("bucket_floats", "buckets"),
    [(0, ["fc4", "fc3", "fc2", "fc1"]), (1000, ["fc4", "fc3", "fc1..fc2"]), (1 << 20, ["fc1..fc4"])],
)
def test_small_neighbours_share_a_bucket_whose_jobs_start_with_the_last_of_them(
    bucket_floats: int, buckets: list[str]
) -> None:
    assert jobs(bucket_floats) == [f"{verb} {name}" for name in buckets for verb in ("reduce", "update")]


def test_members_of_a_bucket_lie_side_by_side_on_cache_lines() -> None:
    small = model(1 << 20, InlineCommThread())
    first, second = small["fc1"].weights, small["fc2"].weights
    ends = [array.ctypes.data + array.nbytes for array in first.values()]
    starts = [array.ctypes.data for array in second.values()]
    assert min(starts) % 64 == 0
    assert 0 <= min(starts) - max(ends) < 64


def test_the_jobs_of_what_the_forward_pass_needs_first_go_first() -> None:
    priorities: dict[str, int] = {}
    queue = InlineCommThread(
        on_span=lambda name, _start, _end, about: priorities.update({name: about["priority"]})
    )
    for node in reversed(list(model(1000, queue))):
        node.submit_reduce()
    assert priorities == {"reduce fc4": 6, "reduce fc3": 4, "reduce fc1..fc2": 0}
