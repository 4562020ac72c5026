"""The picture of a step: its rows, its legend, and what is left out."""

import re

import pytest

from engine.profile.recorder import (
    COMMUNICATION,
    COMPUTE,
    DATA,
    FOR_DATA,
    KIND,
    PASS,
    ROUND,
    STEP,
    UPDATE,
    WAITS,
    Span,
)
from engine.profile.step_picture import COLORS, draw_step
from layers.work import FORWARD

THE_STEP = Span("step 4", COMPUTE, 10.0, 20.0, {STEP: 4})


def shown(tmp_path, *spans, ranks=1):
    """Draw the step on some ranks that do the same; return the comments of the SVG, which are its texts."""
    path = tmp_path / "step.svg"
    draw_step({rank: [THE_STEP, *spans] for rank in range(ranks)}, THE_STEP, path)
    return re.findall(r"<!-- (.*?) -->", path.read_text())


def test_each_rank_has_its_rows_and_the_step_its_title(tmp_path):
    texts = shown(tmp_path, Span("conv1 forward", COMPUTE, 11.0, 15.0, {PASS: FORWARD}), ranks=2)
    rows = {f"rank {rank} {row}" for rank in (0, 1) for row in (COMPUTE, COMMUNICATION, WAITS, DATA)}
    assert rows <= set(texts)
    assert "step 4: 10000.00 ms" in texts


@pytest.mark.parametrize(
    ("span", "kind"),
    [
        (Span("conv1 forward", COMPUTE, 11.0, 15.0, {PASS: FORWARD}), "forward"),
        (Span("update", COMMUNICATION, 11.0, 15.0, {PASS: UPDATE}), "update"),
        (Span("reduce conv1", COMMUNICATION, 11.0, 15.0, {KIND: "job"}), "communication"),
        (Span("update conv1", WAITS, 11.0, 15.0), "wait for communication"),
        (Span("wait", WAITS, 11.0, 15.0, {FOR_DATA: True}), "wait for data"),
        (Span("load", DATA, 11.0, 15.0), "load"),
    ],
)
def test_the_legend_names_the_kinds_that_are_drawn(tmp_path, span, kind):
    texts = shown(tmp_path, span)
    assert kind in texts
    assert not set(COLORS) - {kind, span.name} & set(texts)


def test_spans_of_other_steps_and_rounds_of_messages_are_not_drawn(tmp_path):
    texts = shown(
        tmp_path,
        Span("conv9 forward", COMPUTE, 1.0, 9.0, {PASS: FORWARD}),
        Span("round of conv9", COMMUNICATION, 11.0, 19.0, {KIND: ROUND}),
    )
    assert not [text for text in texts if "conv9" in text]
    assert not set(COLORS) & set(texts)


def test_long_spans_have_labels_and_short_ones_none(tmp_path):
    texts = shown(
        tmp_path,
        Span("conv1 forward", COMPUTE, 11.0, 19.0, {PASS: FORWARD, "layer": "conv1"}),
        Span("conv2 forward", COMPUTE, 19.0, 19.01, {PASS: FORWARD, "layer": "conv2"}),
    )
    assert "conv1" in texts
    assert "conv2" not in texts
