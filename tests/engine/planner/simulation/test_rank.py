"""A simulated rank takes events and returns instructions; what passes between its two threads."""

import heapq
from collections import Counter
from itertools import count

import pytest

from engine.planner.cluster import Channel
from engine.planner.costs import Costs
from engine.planner.simulation.instructions import Announce, Event, Occupy, Schedule
from engine.planner.simulation.links import Links
from engine.planner.simulation.messages import Fabric
from engine.planner.simulation.rank import SimulatedRank
from engine.profile.recorder import COMMUNICATION, COMPUTE, STEP, UPDATE, WAITS
from tests.engine.planner.clusters import cluster
from tests.engine.planner.simulation.threads import Clock, design

STEPS = 2
POLL_S = 1e-4
PLACE = cluster(
    network=Channel(latency_s=1e-5, bytes_per_s=1e8),
    poll_s=POLL_S,
    add_bytes_per_s=1e9,
    update_bytes_per_s=1e9,
)


def rank(clock, *, computes=True, **changes):
    """Return a rank of two that stands for both."""
    point = design(**changes)
    fabric = Fabric(Links(PLACE, symmetric=True), clock, symmetric=True)
    costs = Costs(PLACE, threads=point.threads)
    return SimulatedRank(0, point, costs, fabric, steps=STEPS, slowdown=lambda: 1.0, computes=computes)


def run(simulated, clock):
    """Carry out instructions with a core for every thread; return all events and instructions."""
    order, noted = count(), []
    queue = [(0.0, next(order), Event.GO_ON)]
    while queue:
        clock.now, _, event = heapq.heappop(queue)
        noted.append(event)
        instructions = simulated.handle(event)
        noted += instructions
        for each in instructions:
            match simulated.expect_message(each.moment) if isinstance(each, Announce) else each:
                case Schedule(moment, then):
                    assert moment >= clock.now
                case Occupy(seconds, _, then):
                    moment = clock.now + seconds
            heapq.heappush(queue, (moment, next(order), then))
    return noted


@pytest.mark.parametrize("overlap", [True, False])
def test_a_rank_runs_to_its_end_on_its_own_instructions(overlap):
    clock = Clock()
    simulated = rank(clock, overlap=overlap)
    assert not simulated.has_ended
    noted = run(simulated, clock)
    assert simulated.has_ended
    assert simulated.ended_s <= clock.now, "polls for a stall may come later"
    rows = Counter(span.row for span in simulated.spans)
    assert {COMPUTE, COMMUNICATION, WAITS} == rows.keys()
    assert [span.name for span in simulated.spans if STEP in span.attributes] == ["step 1", "step 2"]
    occupied = Counter(each.event for each in noted if isinstance(each, Occupy))
    delivered = Counter(each for each in noted if isinstance(each, Event))
    assert occupied[Event.COMPUTED] == delivered[Event.COMPUTED]
    assert occupied[Event.PAID] == delivered[Event.PAID]
    assert simulated.bytes_sent == sum(
        span.attributes["bytes"] for span in simulated.spans if span.attributes.get("kind") == "job"
    )


@pytest.mark.parametrize(("overlap", "row"), [(True, COMMUNICATION), (False, COMPUTE)])
def test_no_wait_of_the_main_thread_overlaps_an_update_that_it_does_itself(overlap, row):
    clock = Clock()
    simulated = rank(clock, overlap=overlap)
    run(simulated, clock)
    updates = [span for span in simulated.spans if span.name == UPDATE]
    waits = [span for span in simulated.spans if span.row == WAITS]
    assert {span.row for span in updates} == {row}
    if not overlap:
        assert all(wait.end <= each.start or each.end <= wait.start for wait in waits for each in updates)


def test_communication_alone_neither_computes_nor_updates():
    clock = Clock()
    simulated = rank(clock, computes=False)
    noted = run(simulated, clock)
    assert simulated.computing_seconds == 0.0
    assert Event.COMPUTED not in noted
    assert not [span for span in simulated.spans if span.name == UPDATE]
    assert simulated.bytes_sent > 0


@pytest.mark.parametrize(("overlap", "late_s"), [(True, POLL_S), (False, 0.0)])
def test_a_message_is_noticed_later_while_the_main_thread_computes_beside_it(overlap, late_s):
    simulated = rank(Clock(), overlap=overlap)
    assert simulated.expect_message(1.0) == Schedule(1.0, Event.POLL)
    (first,) = simulated.handle(Event.GO_ON)
    assert isinstance(first, Occupy)
    assert simulated.expect_message(1.0) == Schedule(1.0 + late_s, Event.POLL)


def test_a_poll_of_a_rank_without_jobs_asks_for_nothing():
    assert rank(Clock()).handle(Event.POLL) == []


def test_the_end_of_a_payment_that_was_not_begun_is_refused():
    with pytest.raises(AssertionError):
        rank(Clock()).handle(Event.PAID)
