"""Simulated messages meet, arrive and cost what they should."""

from dataclasses import replace

import numpy as np
import pytest

from comm.communicator import Message
from engine.planner.cluster import Channel
from engine.planner.simulation.events import EventQueue
from engine.planner.simulation.instructions import Announce
from engine.planner.simulation.links import Links
from engine.planner.simulation.messages import Fabric, Ledger, SimulatedCommunicator
from tests.engine.planner.clusters import cluster

CHANNEL = Channel(latency_s=0.001, bytes_per_s=1e6, message_s=2e-5, processor_s_per_byte=1e-9)
FLOATS = np.zeros(1000, np.float32)
WIRE_S = 0.004  # of FLOATS


class World:
    """Ranks on hosts of their own, or `ranks` to a host."""

    def __init__(self, size, *, symmetric=False, **places):
        self.events = EventQueue()
        links = Links(cluster(network=CHANNEL, **places), symmetric=symmetric)
        self.fabric = Fabric(links, self.events.clock, symmetric=symmetric)
        self.ledgers = [Ledger() for _ in range(size)]
        self.ranks = self.communicators("world", range(size))

    def communicators(self, name, members):
        return [
            SimulatedCommunicator(self.fabric, self.ledgers[rank], rank, name, members) for rank in members
        ]


def test_a_message_arrives_at_both_ends_once_both_have_posted_it():
    world = World(2)
    sent = world.ranks[0].post([Message(1, 5, FLOATS)], [])
    assert world.ledgers[0].arrivals == []
    assert not sent.test()
    world.events.now = 0.25
    received = world.ranks[1].post([], [Message(0, 5, FLOATS)])
    arrival = pytest.approx(0.25 + WIRE_S)  # eager: its latency is over when the receiver posts
    sender, receiver = world.ledgers[1].arrivals
    assert (sender.rank, receiver.rank) == (0, 1)
    assert sender.moment == receiver.moment == arrival
    assert world.ledgers[0].arrivals == [], "whoever posts last knows"
    world.events.now = sender.moment
    assert sent.test() and received.test()


def test_messages_match_in_the_order_of_their_posts_by_tag_and_communicator():
    world = World(3)
    pair = world.communicators("pair", range(2))
    for communicator, tag in ((world.ranks[0], 1), (world.ranks[0], 2), (pair[0], 1)):
        communicator.post([Message(1, tag, FLOATS)], [])
    known = []
    for communicator, tag in ((pair[1], 1), (world.ranks[1], 2), (world.ranks[1], 1)):
        communicator.post([], [Message(0, tag, FLOATS)])
        known.append(len(world.ledgers[1].arrivals))
    assert known == [2, 4, 6]
    world.ranks[1].post([], [Message(0, 1, FLOATS)])
    world.ranks[1].post([], [Message(2, 1, FLOATS)])
    assert len(world.ledgers[1].arrivals) == 6, "no such sends"


def test_processor_time_is_charged_for_a_post_and_once_for_bytes_that_have_come():
    world = World(2)
    transfer = world.ranks[0].post([Message(1, 1, FLOATS)], [Message(1, 1, FLOATS)])
    world.ranks[1].post([Message(0, 1, FLOATS)], [Message(0, 1, FLOATS)])
    ledger = world.ledgers[0]
    assert ledger.bytes_sent == FLOATS.nbytes
    assert ledger.processor_s == CHANNEL.message_s
    assert not transfer.test()
    assert ledger.processor_s == CHANNEL.message_s
    world.events.now = 1.0
    assert transfer.test() and transfer.test()
    assert ledger.processor_s == CHANNEL.message_s + 2 * FLOATS.nbytes * CHANNEL.processor_s_per_byte


def test_one_rank_that_stands_for_all_receives_when_its_own_sends_arrive():
    world = World(4, symmetric=True)
    world.ranks[0].post([Message(1, 1, FLOATS)], [Message(3, 1, FLOATS)])
    moment = pytest.approx(0.001 + WIRE_S)
    first, second = world.ledgers[0].arrivals
    assert first == second == Announce(0, first.moment)
    assert first.moment == moment


def test_ranks_of_a_host_share_memory():
    world = World(4, ranks=2)
    group = world.communicators("group", range(1, 4))
    windows = [communicator.share(8) for communicator in (*world.ranks, *group)]
    assert [sorted(window.peers) if window else None for window in windows] == [
        [1],
        [0],
        [3],
        [2],
        None,  # world's rank 1, whose neighbour is no member
        [2],
        [1],
    ]


def test_what_cannot_happen_in_a_simulation_fails():
    rank = World(1).ranks[0]
    for call in (lambda: rank.split(0), lambda: rank.abort(1)):
        with pytest.raises(NotImplementedError):
            call()
    transfer = World(2).ranks[0].post([Message(1, 1, FLOATS)], [])
    with pytest.raises(NotImplementedError):
        transfer.wait()


def test_shared_memory_has_costs_of_its_own():
    near = replace(CHANNEL, message_s=1e-6)
    world = World(2, ranks=2, shared_memory=near)
    world.ranks[0].post([Message(1, 1, FLOATS)], [])
    assert world.ledgers[0].processor_s == near.message_s
