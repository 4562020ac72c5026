"""Messages arrive when their bytes have gone over all links."""

from dataclasses import replace

import pytest

from comm.mpi import EAGER_BYTES
from engine.planner.cluster import FAT_TREE, Channel, Network
from engine.planner.simulation.links import SHARED_MEMORY_EAGER_BYTES, Links
from tests.engine.planner.clusters import cluster

LONG = 4_000_000  # bytes: a second on a slow channel
SLOW = Channel(latency_s=0.001, bytes_per_s=4e6)


def test_a_long_message_goes_three_ways_and_a_short_one_goes_at_once():
    links = Links(cluster(network=SLOW), symmetric=False)
    assert links.arrival(0, 1, EAGER_BYTES, 5.0) == pytest.approx(5.001 + EAGER_BYTES / 4e6)
    assert links.arrival(2, 3, LONG, 5.0) == pytest.approx(5.003 + 1.0)


def test_in_shared_memory_a_long_message_is_fetched():
    links = Links(cluster(shared_memory=SLOW, ranks=4), symmetric=False)
    eager = SHARED_MEMORY_EAGER_BYTES
    assert links.arrival(0, 1, eager, 5.0) == pytest.approx(5.001 + eager / 4e6)
    assert links.arrival(2, 3, LONG, 5.0) == pytest.approx(5.002 + 1.0)


@pytest.mark.parametrize(("waited_s", "saved_s"), [(0.0004, 0.0004), (0.5, 0.001)])
def test_a_receiver_that_is_late_has_been_told_already(waited_s, saved_s):
    links = Links(cluster(network=SLOW), symmetric=False)
    assert links.arrival(0, 1, LONG, 5.0, waited_s=waited_s) == pytest.approx(6.003 - saved_s)


def test_a_link_carries_one_message_after_the_other_in_each_direction():
    links = Links(cluster(network=SLOW), symmetric=False)
    out, back = (links.arrival(*ends, LONG, 0.0) for ends in ((0, 1), (1, 0)))
    assert out == back == pytest.approx(1.003)
    assert links.arrival(0, 2, LONG, 0.0) == pytest.approx(2.003), "rank 0's link is taken"
    assert links.arrival(3, 1, LONG, 0.0) == pytest.approx(2.003), "so is what leads to rank 1"
    assert links.arrival(3, 0, LONG, 0.5) == pytest.approx(2.003), "and rank 3's"


def test_ranks_of_a_host_share_its_link_but_not_their_memory():
    fast = Channel(latency_s=0.0, bytes_per_s=4e9)
    links = Links(cluster(network=SLOW, shared_memory=fast, ranks=2), symmetric=False)
    assert links.channel(0, 1) is fast
    assert links.channel(1, 2) is SLOW
    assert links.arrival(0, 1, LONG, 0.0) == pytest.approx(0.001)
    assert links.arrival(0, 2, LONG, 0.0) == pytest.approx(1.003)
    assert links.arrival(1, 3, LONG, 0.0) == pytest.approx(2.003)


def test_between_groups_messages_share_fewer_links():
    network = Network(SLOW, FAT_TREE, group_machines=4, oversubscription=2.0, far_latency_s=0.5)
    machines = replace(cluster(), network=network)
    links = Links(machines, symmetric=False)
    assert links.arrival(0, 1, LONG, 0.0) == pytest.approx(1.003)
    far = [links.arrival(rank, rank + 4, LONG, 10.0) for rank in range(4)]
    assert max(far) == pytest.approx(11.503 + 2.5, abs=0.51), "four machines, the links of two"
    symmetric = Links(machines, symmetric=True)
    assert symmetric.arrival(0, 4, LONG, 10.0) == pytest.approx(11.503 + 2.0)
