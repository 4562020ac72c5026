"""A trace file: its form, how it is written, and what cannot be."""

import json
from pathlib import Path

import numpy as np
import pytest

from comm.clock import Alignment, Reading
from comm.threads import run_ranks, single_rank
from engine.config.errors import UserError
from engine.profile.recorder import COMMUNICATION, COMPUTE, DATA, STEP, WAITS, Recorder, Span
from engine.profile.trace_file import check_writable, lanes_of, read_trace, write_spans, write_trace
from tests.engine.json_schema import errors

SCHEMA = json.loads((Path(__file__).parent / "trace_schema.json").read_text())
UNSHIFTED = Alignment(Reading(0.0, 0.0, 0.0), Reading(1.0, 0.0, 0.0))


def recorder_of(*spans: Span) -> Recorder:
    recorder = Recorder(keep=True)
    recorder.spans += spans
    return recorder


def written(path: Path, *spans: Span) -> list[dict]:
    """Write the spans as one rank, and return the complete events."""
    write_trace(path, single_rank(), recorder_of(*spans), UNSHIFTED, communication_alone=None)
    content = json.loads(path.read_text())
    assert errors(content, SCHEMA) == []
    return [event for event in content["traceEvents"] if event["ph"] == "X"]


def test_the_schema_finds_what_is_wrong():
    event = {"name": "a", "cat": "data", "ph": "X", "pid": 0, "tid": 0, "ts": 0.5, "dur": 1, "args": {}}
    schema = SCHEMA["properties"]["traceEvents"]["items"]
    assert errors(event, schema) == []
    wrong = {"ph": "Z", "dur": -1, "ts": "0", "pid": 0.5, "cat": "x", "more": 1, "tid": True}
    for name, value in wrong.items():
        assert errors(event | {name: value}, schema), name
    assert errors({name: event[name] for name in event if name != "ts"}, schema)


def test_spans_come_back_as_they_were_with_times_from_the_first(tmp_path):
    spans = (
        Span("conv1 forward", COMPUTE, 10.0, 10.5, {"layer": "conv1"}),
        Span("reduce conv1", COMMUNICATION, 10.25, 11.0, {"bytes": 400, "partner": 1}),
        Span("update conv1", WAITS, 10.5, 11.0),
        Span("load", DATA, 9.0, 9.5),
    )
    written(tmp_path / "trace.json", *spans)
    trace = read_trace(tmp_path / "trace.json")
    assert trace.complete
    assert trace.communication_alone is None
    for span, wanted in zip(trace.ranks[0], spans, strict=True):
        assert (span.name, span.row, span.attributes) == (wanted.name, wanted.row, wanted.attributes)
        assert (span.start, span.end) == pytest.approx((wanted.start - 9.0, wanted.end - 9.0), abs=1e-8)


def test_spans_that_were_never_recorded_come_back_with_their_times(tmp_path):
    ranks = [
        [Span("conv1 forward", COMPUTE, 0.5, 1.0, {"layer": "conv1"})],
        [Span("update conv1", WAITS, 0.25, 0.75)],
    ]
    write_spans(tmp_path / "trace.json", ranks, communication_alone=0.125)
    trace = read_trace(tmp_path / "trace.json")
    assert [list(spans) for spans in trace.ranks] == ranks
    assert trace.communication_alone == 0.125
    content = json.loads((tmp_path / "trace.json").read_text())
    assert errors(content, SCHEMA) == []


def test_rank_0_writes_all_ranks_by_its_own_clock(tmp_path):
    path = tmp_path / "trace.json"

    def work(world):
        ahead = 100.0 * world.rank
        alignment = Alignment(Reading(ahead, ahead, 1e-5 * world.rank), Reading(ahead + 9, ahead, 0.0))
        recorder = recorder_of(Span(f"rank {world.rank}", COMPUTE, ahead + world.rank, ahead + 5.0))
        file = path if world.rank == 0 else None
        write_trace(file, world, recorder, alignment, communication_alone=0.25)

    run_ranks(3, work)
    content = json.loads(path.read_text())
    assert errors(content, SCHEMA) == []
    assert content["otherData"]["lockstep"]["clock_error_seconds"] == 2e-5
    trace = read_trace(path)
    assert trace.communication_alone == 0.25
    assert [(span.name, span.start, span.end) for (span,) in trace.ranks] == [
        (f"rank {rank}", rank, 5.0) for rank in range(3)
    ]
    names = {
        (event["pid"], event["args"]["name"])
        for event in content["traceEvents"]
        if event["name"] in ("process_name", "thread_name")
    }
    for rank in range(3):
        for name in (f"rank {rank}", "compute", "communication", "waits", "data"):
            assert (rank, name) in names


@pytest.mark.parametrize(("row", "nested"), [(COMPUTE, 0), (COMMUNICATION, 1)])
def test_spans_of_a_row_that_cross_lie_in_lanes_and_nested_ones_unless_they_are_jobs(tmp_path, row, nested):
    events = written(
        tmp_path / "trace.json",
        Span("whole", row, 0.0, 4.0),
        Span("nested", row, 1.0, 2.0),
        Span("crossing", row, 3.0, 6.0),
        Span("crossing both", row, 3.5, 7.0),
        Span("after", row, 4.0, 5.0),
    )
    first = min(event["tid"] for event in events)
    lanes = {event["name"]: event["tid"] - first for event in events}
    assert lanes == {"whole": 0, "nested": nested, "crossing": 1, "crossing both": 2, "after": 0}


def test_jobs_come_before_updates_and_these_before_exchanges():
    spans = [
        Span("reduce fc6", COMMUNICATION, 0.25, 0.75, {"kind": "exchange"}),
        Span("reduce fc6", COMMUNICATION, 0.5, 1.0, {"kind": "exchange"}),
        Span("reduce fc6", COMMUNICATION, 0.0, 1.0, {"kind": "job"}),
        Span("update", COMMUNICATION, 0.5, 0.75, {"pass": "update"}),
        Span("gather loss", COMMUNICATION, 0.5, 2.0, {"kind": "job"}),
        Span("fc6 forward", COMPUTE, 0.0, 1.0, {"pass": "forward"}),
    ]
    lanes = lanes_of(COMMUNICATION, spans)
    assert [name for name, _ in lanes] == [
        "communication", "communication 2", "communication, update", "communication, exchanges",
        "communication, exchanges 2",
    ]  # fmt: skip
    assert [lane for _, lane in lanes] == [[spans[at]] for at in (2, 4, 3, 0, 1)]
    assert lanes_of(COMPUTE, spans) == [("compute", [spans[5]])]
    assert lanes_of(WAITS, spans) == [("waits", [])]


def crossings(events):
    """Return pairs of events of one thread that partly overlap, which no viewer can draw."""
    threads = {}
    for event in events:
        start = round(event["ts"] * 1e3)
        thread = threads.setdefault((event["pid"], event["tid"]), [])
        thread.append((start, -start - round(event["dur"] * 1e3), event["name"]))
    found = []
    for thread in threads.values():
        around = []  # the events that have not ended
        for start, end, name in sorted(thread):
            while around and -around[-1][1] <= start:
                around.pop()
            found += [(other[2], name) for other in around if -end > -other[1]]
            around.append((start, end, name))
    return found


def test_events_of_one_thread_never_partly_overlap(tmp_path):
    rng = np.random.default_rng(5)
    starts, lengths = rng.random(300) * 1e-3, rng.random(300) * 1e-4
    spans = [
        Span(f"job {number}", COMMUNICATION, 7e4 + start, 7e4 + start + length, {"kind": "exchange"})
        for number, (start, length) in enumerate(zip(starts, lengths, strict=True))
    ]
    spans += [Span(f"after {span.name}", WAITS, span.end, span.end + 1e-4 / 3) for span in spans[:9]]
    events = written(tmp_path / "trace.json", *spans)
    assert crossings(events) == []
    assert crossings([event | {"tid": 0} for event in events])


def test_what_lies_side_by_side_in_another_span_still_does_when_read(tmp_path):
    ends = np.cumsum(np.random.default_rng(6).random(300) * 1e-3) + 7e4
    passes = [Span(f"pass {i}", COMPUTE, *ends[i : i + 2]) for i in range(299)]
    write_trace(
        tmp_path / "trace.json", single_rank(),
        recorder_of(*passes, Span("step 1", COMPUTE, ends[0], ends[-1])), UNSHIFTED, communication_alone=None,
    )  # fmt: skip
    (spans,) = read_trace(tmp_path / "trace.json").ranks
    assert [name for name, _ in lanes_of(COMPUTE, spans)] == ["compute"]


def test_a_trace_that_cannot_be_written_is_refused_before_the_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert check_writable("trace.json") == tmp_path / "trace.json"
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match=r"^trace: .*none/trace\.json: there is no folder .*/none$"):
        check_writable("none/trace.json")
    for text in (".", "/dev/null"):
        with pytest.raises(UserError, match=r"^trace: .* is not a file$"):
            check_writable(text)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"^trace: .*there is no folder .*/file$"):
        check_writable("file/trace.json")


def test_a_link_is_followed_and_an_old_trace_written_over(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "target")
    for name in ("old", "new"):
        written(check_writable(str(tmp_path / "link")), Span(name, COMPUTE, 0.0, 1.0))
    assert (tmp_path / "link").is_symlink()
    assert read_trace(tmp_path / "target").ranks[0][0].name == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "target"]


def test_a_folder_that_has_gone_is_one_clear_error(tmp_path):
    with pytest.raises(UserError, match=r"^trace: .*gone/trace\.json: cannot be written: No such file"):
        written(tmp_path / "gone/trace.json", Span("a", COMPUTE, 0.0, 1.0))


OTHERS = (
    "", "no JSON", "[]", "{}", '{"traceEvents": []}', '{"otherData": {"lockstep": {"ranks": "x"}}}',
    "[" * 99999, '{"otherData": {"lockstep": {"ranks": 0}}, "traceEvents": []}',
)  # fmt: skip
DAMAGES = (
    ('"ranks": 2', '"ranks": 1000000000'),
    ('"ranks": 2', '"ranks": 1'),
    ('"communication_alone_seconds": null', '"communication_alone_seconds": "x"'),
    ('"step": 1', '"step": "first"'),
    ('"dur": 1000000.0', '"dur": Infinity'),
    ('"dur": 1000000.0', '"dur": NaN'),
)
"""What a trace says, and what a damaged one does."""


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_trace_is_refused(tmp_path, damage):
    path = tmp_path / "damaged.json"
    recorders = [Recorder(keep=True) for _ in range(2)]
    for recorder in recorders:
        recorder.spans.append(Span("step 1", COMPUTE, 0.0, 1.0, {STEP: 1}))

    def write(world):
        own = path if world.rank == 0 else None
        write_trace(own, world, recorders[world.rank], UNSHIFTED, communication_alone=None)

    run_ranks(2, write)
    text = path.read_text()
    assert damage[0] in text
    assert len(read_trace(path).ranks) == 2
    path.write_text(text.replace(*damage))
    with pytest.raises(UserError, match=r"damaged\.json: is not a trace written by engine\.train --trace"):
        read_trace(path)


@pytest.mark.parametrize("text", OTHERS)
def test_what_is_no_trace_of_ours_is_refused(tmp_path, text):
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"other\.json: is not a trace written by engine\.train --trace"):
        read_trace(path)


def test_a_missing_trace_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"none\.json: cannot be read: No such file"):
        read_trace(tmp_path / "none.json")


def test_only_a_trace_is_written_over(tmp_path):
    path = tmp_path / "trace.json"
    path.write_text("my notes")
    with pytest.raises(UserError, match=r"^trace: .* is there and no trace, and is not written over"):
        check_writable(str(path))
    assert path.read_text() == "my notes"
    for content in ("", '{"displayTimeUnit": "ms"}'):
        path.write_text(content)
        assert check_writable(str(path)) == path
