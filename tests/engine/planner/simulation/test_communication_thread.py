"""The communication thread advances jobs, pays for them and looks for stalls."""

import numpy as np
import pytest

from comm.communicator import Message
from comm.job import Round
from comm.scheduler import STALL_S
from engine.planner.simulation.communication_thread import Paying, Polling
from engine.planner.simulation.instructions import Announce, Event, Occupy, Schedule
from engine.planner.simulation.links import Links
from engine.planner.simulation.messages import Fabric, Ledger, SimulatedCommunicator
from engine.profile.recorder import COMMUNICATION, COMPUTE, UPDATE
from engine.training.update import Piece, UpdateForm
from tests.engine.planner.clusters import cluster
from tests.engine.planner.simulation.threads import Clock, communication, request, submit

WEIGHTS = np.zeros(2, np.float32)


def round_trip(clock, ledger, **changes):
    """Return a round of eight bytes with a rank that is there at the same time, on a free network."""
    links = Links(cluster(), symmetric=True)
    world = SimulatedCommunicator(
        Fabric(links, clock, symmetric=True), ledger, rank=0, name="world", members=range(2)
    )
    return Round(world, [Message(1, 1, WEIGHTS)], [Message(1, 1, WEIGHTS)], **changes)


def test_a_job_that_costs_nothing_ends_without_paying():
    clock, ticket = Clock(), request()
    thread = communication(clock)
    assert thread.submit(submit(iter([None]), ticket)) == Schedule(0.0, Event.POLL)
    while not ticket.has_ended():
        assert thread.turn() == []
    assert thread.turn() is None
    assert thread.state == Polling()
    assert thread.job_ended_s == 0.0


def test_arrivals_are_announced_and_an_addition_paid_for():
    clock, ledger = Clock(), Ledger()
    thread = communication(clock, ledger)
    added = []
    thread.submit(submit(iter([round_trip(clock, ledger, then=lambda: added.append(1))])))
    arrivals = thread.turn()
    assert arrivals == [Announce(0, pytest.approx(0.0, abs=1e-9))] * 2, "the post, free on this network"
    assert ledger.arrivals == []
    clock.now = 2.0
    assert thread.turn() == [Occupy(8.0, 1, Event.PAID)], "a second for each byte received"
    assert thread.state == Paying(since=2.0, updates=False)
    assert not added, "simulated, not done"
    assert ledger.processor_s == 0.0
    with pytest.raises(AssertionError):
        thread.turn()
    thread.paid()
    assert thread.state == Polling()
    assert thread.turn() is None


def test_reading_the_memory_of_a_neighbour_counts_as_sent_and_as_added():
    clock, ledger = Clock(), Ledger()
    thread = communication(clock, ledger)
    thread.submit(submit(iter([round_trip(clock, ledger, then=lambda: None, bytes_read=100)])))
    thread.turn()
    clock.now = 2.0
    assert thread.turn() == [Occupy(108.0, 1, Event.PAID)]
    assert ledger.bytes_sent == 108


@pytest.mark.parametrize(("overlap", "row"), [(True, COMMUNICATION), (False, COMPUTE)])
def test_an_update_is_paid_for_on_the_thread_that_does_it(overlap, row):
    clock, ticket = Clock(), request()
    thread = communication(clock, overlap=overlap)

    def job():
        thread.update.apply(Piece(WEIGHTS, WEIGHTS))
        yield None

    thread.submit(submit(job(), ticket))
    assert thread.turn() == [Occupy(8.0, 1, Event.PAID)]
    assert thread.state == Paying(since=0.0, updates=True)
    clock.now = 9.0  # the core was shared
    thread.paid()
    (span,) = [span for span in thread._spans if span.name == UPDATE]
    assert (span.row, span.start, span.end) == (row, 0.0, 9.0)
    while thread.turn() is not None:
        pass
    assert ticket.has_ended()
    assert thread.job_ended_s == 9.0


def test_communication_alone_pays_for_no_update():
    thread = communication(Clock(), updates_cost=False)
    thread.update.apply(Piece(WEIGHTS, WEIGHTS))
    thread.submit(submit(iter([None])))
    assert thread.turn() == []
    assert thread.state == Polling()


@pytest.mark.parametrize(
    ("form", "streams"),
    [
        (UpdateForm(), 5),  # of weights, gradients and velocities, three read and two written
        (UpdateForm(("exp_avg", "exp_avg_sq")), 7),
        (UpdateForm(("exp_avg", "exp_avg_sq"), averages=True), 9),
    ],
)
def test_an_update_costs_what_it_reads_and_writes(form, streams):
    thread = communication(Clock(), form=form)
    thread.update.apply(Piece(WEIGHTS, WEIGHTS))
    assert thread._ledger.processor_s == pytest.approx(8.0 * streams / 5)
    thread.update.add_squares(WEIGHTS, None)
    assert thread._ledger.processor_s == pytest.approx(8.0 * (streams + 1) / 5)
    thread.update.direct(Piece(WEIGHTS, WEIGHTS))
    assert thread._ledger.processor_s == pytest.approx(8.0 * (2 * streams + 1) / 5)


@pytest.mark.parametrize(("prioritised", "first"), [(True, "urgent"), (False, "early")])
def test_priorities_count_where_the_design_has_them(prioritised, first):
    thread, ended = communication(Clock(), prioritised=prioritised), []
    tickets = {name: request(name) for name in ("early", "urgent")}
    for priority, ticket in zip((1, 0), tickets.values(), strict=True):
        thread.submit(submit(iter([None]), ticket, priority=priority))
    while thread.turn() is not None:
        ended += [name for name, ticket in tickets.items() if ticket.has_ended() and name not in ended]
    assert ended[0] == first


def test_a_job_begins_after_the_one_that_it_builds_on():
    thread, earlier = communication(Clock()), request()
    thread.submit(submit(iter([]), after=earlier))
    assert thread.turn() is None
    earlier.end(None)
    assert thread.turn() == []


def test_polls_take_part_of_a_core_while_there_are_jobs_and_overlap():
    for overlap, share in ((True, 0.25), (False, 0.0)):
        thread = communication(Clock(), overlap=overlap, polling=0.25)
        assert thread.polling_threads() == 0.0
        thread.submit(submit(iter([None])))
        assert thread.polling_threads() == share


def test_a_stall_is_looked_for_once_at_a_time_and_only_while_there_are_jobs():
    clock = Clock()
    thread = communication(clock)
    clock.now = 1.0
    assert thread.check_for_stall() == []
    thread.submit(submit(iter([None]), after=request("never ends")))
    (check,) = thread.check_for_stall()
    assert check.event == Event.POLL
    assert check.moment > 1.0 + STALL_S
    assert thread.check_for_stall() == []
    clock.now = check.moment
    assert len(thread.check_for_stall()) == 1


def test_a_job_that_fails_is_an_error_of_the_simulation():
    def job():
        yield None
        raise ZeroDivisionError

    thread = communication(Clock())
    thread.submit(submit(job()))
    thread.turn()
    with pytest.raises(ZeroDivisionError):
        thread.turn()
