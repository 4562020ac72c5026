"""A step of a trace for the page, and whose trace it is."""

import json
from dataclasses import replace

import pytest

from engine.config.errors import UserError
from engine.profile.recorder import (
    COMMUNICATION,
    COMPUTE,
    DATA,
    FOR_DATA,
    KIND,
    LAYER,
    PASS,
    STEP,
    WAITS,
    Span,
)
from engine.profile.trace_file import Trace, write_spans
from engine.report.run_record import read_runs
from engine.report.timeline import KINDS, find_trace, one_step
from layers.work import BACKWARD_DATA, FORWARD
from tests.engine.report.written import RESULTS, write_run


def spans(count: int = 8, length: float = 0.01) -> list[Span]:
    """Return steps that take one, two, ... times as long as the first."""
    found, start = [], 0.0
    for number in range(1, count + 1):
        end = start + length * number
        found += [
            Span(f"step {number}", COMPUTE, start, end, {STEP: number}),
            Span("conv1 forward", COMPUTE, start, start + 0.002, {LAYER: "conv1", PASS: FORWARD}),
            Span(
                "conv1 backward_data", COMPUTE, start + 0.003, end + 9, {LAYER: "conv1", PASS: BACKWARD_DATA}
            ),
            Span("reduce conv1", COMMUNICATION, start + 0.001, start + 0.004, {KIND: "job"}),
            Span("reduce conv1", COMMUNICATION, start + 0.001, start + 0.002, {KIND: "exchange"}),
            Span("update conv1", WAITS, start + 0.002, start + 0.003),
            Span("wait for data", WAITS, start, start + 0.001, {FOR_DATA: True}),
            Span("load", DATA, start, start + 0.005),
        ]
        start = end
    return found


def traced_run(folder, count: int = 8):
    """Write a run whose steps took the times of `spans`, and its trace beside the folder."""
    write_run(folder, steps=count)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["kind"] == "step"]
    for line in steps:
        line["seconds"] = 0.01 * line["step"]
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, steps)))
    trace = folder.parent / f"{folder.name}-trace.json"
    write_spans(trace, [spans(count)] * 2, communication_alone=None)
    (run,) = read_runs([str(folder)])
    return run, trace


def test_a_step_of_median_length_is_drawn_or_the_one_that_is_asked_for():
    trace = Trace((tuple(spans()), tuple(spans())), None, True)
    step = one_step(trace, None)
    assert (step.number, step.seconds) == (6, pytest.approx(0.06)), "of 4 to 8: three are left out"
    assert one_step(trace, 2).number == 2
    with pytest.raises(UserError, match="step: got 9; the trace has 1 to 8"):
        one_step(trace, 9)


def test_the_rows_are_the_threads_of_each_rank_and_hold_what_they_did():
    step = one_step(Trace((tuple(spans()), tuple(spans())), None, True), 1)
    names = ["compute", "communication", "waits", "data"]
    assert [(row["rank"], row["name"]) for row in step.rows] == [(r, name) for r in (0, 1) for name in names]
    told = {
        row["name"]: [(step.names[span[3]], KINDS[span[2]], span[0], span[1]) for span in row["spans"]]
        for row in step.rows[:4]
    }
    assert told["compute"] == [("conv1", BACKWARD_DATA, 3000, 7000), ("conv1", FORWARD, 0, 2000)]
    assert told["communication"] == [("reduce conv1", "communication", 1000, 3000)], "a job, not its rounds"
    assert ("update conv1", "wait_for_communication", 2000, 1000) in told["waits"]
    assert ("wait for data", "wait_for_data", 0, 1000) in told["waits"]
    assert told["data"] == [("load", "load", 0, 5000)]
    assert step.spans == 12
    assert step.notes == []


def test_of_many_ranks_the_first_are_drawn_and_a_cut_trace_says_so():
    step = one_step(Trace((tuple(spans()),) * 20, None, False), None)
    assert max(row["rank"] for row in step.rows) == 15
    assert step.notes[0].startswith("cut off")
    assert step.notes[1] == "the first 16 of 20 ranks are drawn"


def test_a_trace_without_a_step_draws_nothing():
    assert one_step(Trace(((),), None, True), None) is None


def test_a_trace_is_found_in_the_folder_and_where_the_run_wrote_it(tmp_path, monkeypatch):
    run, trace = traced_run(tmp_path / "run")
    assert find_trace(run, None) is None
    assert find_trace(run, str(trace)) is not None
    told = replace(run, results={**RESULTS, "trace": str(trace)})
    assert find_trace(told, None) is not None
    monkeypatch.chdir(tmp_path)
    assert find_trace(replace(run, results={**RESULTS, "trace": trace.name}), None) is not None
    trace.rename(run.folder / "trace.json")
    assert find_trace(run, None) is not None


def test_a_trace_of_another_run_is_no_trace_of_this_one(tmp_path):
    run, trace = traced_run(tmp_path / "run")
    (other,) = read_runs([str(write_run(tmp_path / "other"))])
    with pytest.raises(UserError, match=r"trace: .*run-trace\.json is of another run than .*other"):
        find_trace(other, str(trace))
    assert find_trace(replace(other, results={**RESULTS, "trace": str(trace)}), None) is None
    trace.write_text("{}")
    (run.folder / "trace.json").write_text("not a trace")
    assert find_trace(replace(run, results={**RESULTS, "trace": str(trace)}), None) is None
    with pytest.raises(UserError, match="is not a trace"):
        find_trace(run, str(trace))


@pytest.mark.parametrize(("error_s", "is_its_own"), [(1e-9, True), (4e-9, False), (1e-4, False)])
def test_steps_of_a_trace_may_differ_by_the_rounding_of_its_clock_only(tmp_path, error_s, is_its_own):
    run, trace = traced_run(tmp_path / "run")
    run.steps.values["seconds"][:] += error_s
    told = replace(run, results={**RESULTS, "trace": str(trace)})
    assert (find_trace(told, None) is not None) == is_its_own


def test_a_file_of_the_name_that_is_no_trace_does_not_hide_the_trace(tmp_path):
    run, trace = traced_run(tmp_path / "run")
    (run.folder / "trace.json").write_text("{}")
    assert find_trace(replace(run, results={**RESULTS, "trace": str(trace)}), None) is not None
