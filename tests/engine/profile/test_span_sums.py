"""Sums of spans: what belongs to a step, and to which sum."""

from engine.profile.recorder import (
    COMMUNICATION,
    COMPUTE,
    DATA,
    FOR_DATA,
    LAYER,
    PASS,
    STEP,
    UPDATE,
    WAITS,
    Span,
)
from engine.profile.span_sums import steady_steps, sum_spans
from layers.work import BACKWARD_DATA, FORWARD

STEPS = 8  # of which three are left out


def step(number: int, *inside: Span) -> list[Span]:
    """Return a step of ten seconds and the spans inside it, shifted to its start."""
    begin = 10.0 * number
    shifted = [Span(s.name, s.row, begin + s.start, begin + s.end, s.attributes) for s in inside]
    return [*shifted, Span(f"step {number}", COMPUTE, begin, begin + 10.0, {STEP: number})]


def spans(*inside: Span) -> list[Span]:
    return [span for number in range(STEPS) for span in step(number, *inside)]


def test_the_first_steps_are_left_out():
    assert [span.attributes[STEP] for span in steady_steps(spans())] == [3, 4, 5, 6, 7]
    sums = sum_spans(spans())
    assert (sums.steps, sums.wall) == (5, 50.0)


def test_each_span_goes_to_its_sum():
    sums = sum_spans(
        spans(
            Span("conv1 forward", COMPUTE, 1.0, 2.0, {PASS: FORWARD}),
            Span("conv2 forward", COMPUTE, 2.0, 2.5, {PASS: FORWARD}),
            Span("conv2 backward_data", COMPUTE, 3.0, 5.0, {PASS: BACKWARD_DATA}),
            Span("update", COMPUTE, 5.0, 5.5, {PASS: UPDATE}),
            Span("update conv1", WAITS, 6.0, 7.0),
            Span("wait for data", WAITS, 7.0, 7.25, {FOR_DATA: True}),
        )
    )
    assert sums.compute == {FORWARD: 7.5, BACKWARD_DATA: 10.0, UPDATE: 2.5}
    assert sums.waits == {"update conv1": 5.0}
    assert sums.data == 1.25


def test_passes_are_summed_by_layer():
    sums = sum_spans(
        spans(
            Span("conv1 forward", COMPUTE, 1.0, 2.0, {LAYER: "conv1", PASS: FORWARD}),
            Span("conv1 forward", COMPUTE, 2.0, 2.5, {LAYER: "conv1", PASS: FORWARD}),
            Span("conv1 backward_data", COMPUTE, 3.0, 5.0, {LAYER: "conv1", PASS: BACKWARD_DATA}),
            Span("update", COMPUTE, 5.0, 5.5, {PASS: UPDATE}),
        )
    )
    assert sums.layers == {("conv1", FORWARD): 7.5, ("conv1", BACKWARD_DATA): 10.0}


def test_what_other_threads_do_is_no_part_of_the_main_threads_time():
    sums = sum_spans(
        spans(
            Span("update", COMMUNICATION, 1.0, 2.0, {PASS: UPDATE}),
            Span("reduce conv1", COMMUNICATION, 1.0, 3.0),
            Span("load", DATA, 1.0, 3.0),
        )
    )
    assert (sums.compute, sums.waits, sums.data) == ({}, {}, 0.0)


def test_what_happens_between_steps_belongs_to_none():
    evaluation = Span("conv1 forward", COMPUTE, 85.0, 86.0, {PASS: FORWARD})
    before = Span("conv1 forward", COMPUTE, 1.0, 2.0, {PASS: FORWARD})
    assert sum_spans([*spans(), evaluation, before]).compute == {}


def test_no_steps_have_empty_sums():
    assert sum_spans([Span("load", DATA, 0.0, 1.0)]).steps == 0
