"""The main thread runs operations, and each of its states leads to the next."""

import pytest

from engine.planner.simulation.instructions import Event, Occupy, Schedule
from engine.planner.simulation.main_thread import Computing, Ended, MainThread, Ready, Updating, Waiting
from engine.planner.simulation.program import Compute, EndStep, Wait
from engine.profile.recorder import COMPUTE, PASS, STEP, WAITS, Span
from layers.work import FORWARD
from tests.engine.planner.simulation.threads import THREADS, Clock, communication, design, request, submit

PASS_OVER_CONV = Compute(2.0, "conv", FORWARD)


def main_thread(*operations, clock=None, overlap=True, slowdown=1.0, polling=0.0):
    clock = clock or Clock()
    return MainThread(
        operations,
        design(overlap=overlap),
        communication(clock, overlap=overlap, polling=polling),
        clock=clock,
        spans=[],
        slowdown=lambda: slowdown,
    )


def test_a_pass_occupies_cores_and_leaves_a_span():
    clock = Clock()
    main = main_thread(PASS_OVER_CONV, clock=clock, slowdown=1.5)
    assert main.state == Ready()
    clock.now = 1.0
    assert main.go_on() == [Occupy(3.0, THREADS, Event.COMPUTED)]
    assert main.state == Computing(PASS_OVER_CONV, since=1.0)
    clock.now = 9.0
    assert main.computed() == []
    assert main.state == Ended()
    about = {"layer": "conv", PASS: FORWARD}
    assert main._spans == [Span("conv forward", COMPUTE, 1.0, 9.0, about)]
    assert main.computing_seconds == 3.0, "not counting that it shared cores"


def test_a_pass_leaves_room_for_polls_while_jobs_are_under_way():
    main = main_thread(PASS_OVER_CONV, submit(iter([None])), PASS_OVER_CONV, polling=0.25)
    assert main.go_on() == [Occupy(2.0, THREADS, Event.COMPUTED)]
    assert main.computed() == [Schedule(0.0, Event.POLL), Occupy(2.0, THREADS + 0.25, Event.COMPUTED)]


def test_what_takes_no_time_leaves_the_thread_ready_for_the_next_operation():
    main = main_thread(Compute(0.0, "flatten", FORWARD), EndStep(1), PASS_OVER_CONV)
    assert main.go_on() == [Occupy(2.0, THREADS, Event.COMPUTED)]


def test_what_belongs_to_no_layer_leaves_no_span():
    main = main_thread(Compute(1.0, "loop"))
    main.go_on()
    main.computed()
    assert main._spans == []


def test_a_wait_ends_with_its_job():
    clock, ticket = Clock(), request("reduce conv")
    main = main_thread(Wait(ticket), clock=clock)
    clock.now = 1.0
    assert main.go_on() == [Schedule(1.0, Event.POLL)]
    assert main.state == Waiting(ticket, since=1.0)
    assert main.release() == []
    ticket.end(None)
    clock.now = 4.0
    assert main.release() == [Schedule(4.0, Event.GO_ON)]
    assert main.state == Ready()
    assert main._spans == [Span("reduce conv", WAITS, 1.0, 4.0)]
    assert main.release() == [], "already released"
    assert main.go_on() == []
    assert main.state == Ended()


def test_a_job_that_has_ended_is_not_waited_for():
    ticket = request()
    ticket.end(None)
    main = main_thread(Wait(ticket))
    assert main.go_on() == []
    assert main.state == Ended()


def test_without_overlap_a_job_is_waited_for_where_it_is_submitted():
    ticket = request()
    main = main_thread(submit(iter([None]), ticket), overlap=False)
    assert main.go_on() == [Schedule(0.0, Event.POLL), Schedule(0.0, Event.POLL)]
    assert main.state == Waiting(ticket, since=0.0)


def test_an_update_on_the_main_thread_interrupts_its_wait():
    clock, ticket = Clock(), request("update conv")
    main = main_thread(Wait(ticket), clock=clock, overlap=False)
    main.go_on()
    clock.now = 1.0
    main.begin_update()
    assert main.state == Updating(ticket)
    ticket.end(None)
    assert main.release() == [], "not before the update is paid for"
    clock.now = 3.0
    main.end_update()
    assert main.state == Waiting(ticket, since=3.0)
    clock.now = 3.5
    assert main.release() == [Schedule(3.5, Event.GO_ON)]
    assert [(span.start, span.end) for span in main._spans] == [(0.0, 1.0), (3.0, 3.5)]


def test_a_step_begins_where_the_one_before_has_ended():
    clock = Clock()
    main = main_thread(PASS_OVER_CONV, EndStep(1), PASS_OVER_CONV, EndStep(2), clock=clock)
    main.go_on()
    for now in (2.0, 5.0):
        clock.now = now
        main.computed()
    steps = [span for span in main._spans if STEP in span.attributes]
    assert [(span.name, span.start, span.end) for span in steps] == [
        ("step 1", 0.0, 2.0),
        ("step 2", 2.0, 5.0),
    ]
    assert main.step_ended_s == 5.0


@pytest.mark.parametrize("event", ["computed", "begin_update", "end_update"])
def test_an_event_that_the_state_does_not_expect_is_refused(event):
    with pytest.raises(AssertionError):
        getattr(main_thread(PASS_OVER_CONV), event)()
