"""The explain command, on the runs and traces that the train command leaves."""

import builtins
import json
import re

import pytest

from comm.threads import run_ranks
from engine import explain
from engine.explain import explain_trace, main, read_results
from engine.profile.breakdown import Breakdown
from engine.profile.recorder import COMPUTE, DATA
from engine.profile.span_sums import steady_steps
from engine.profile.trace_file import read_trace
from engine.run.launch import run
from engine.run.start import new_run
from layers.work import PASSES
from tests.engine.json_schema import errors
from tests.engine.profile.test_trace_file import SCHEMA, crossings

BUCKET = "fc4..fc5"  # of so many KiB
SHORT = {"epochs": 0, "steps": 8, "threads": 1, "checkpoint_steps": 4, "evaluate_every": 1, "bucket_kib": 192}


def trained(folder, *, ranks=2, **changes):
    """Train with a trace; return the results and the two paths."""
    out, path = folder / "run", folder / "trace.json"
    changes = {**SHORT, **changes, "out": str(out), "trace": str(path)}
    results, *_ = run_ranks(ranks, lambda world: run(world, lambda: new_run("digits", changes)))
    return results, out, path


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("traced"))


def close(one: Breakdown, other: Breakdown) -> None:
    """Check that two tables say the same; clocks and rounding take some millionths, or microseconds."""
    mine, theirs = one.to_json(), other.to_json()
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        if name == "seconds_by_layer":
            assert list(value) == list(theirs[name])
            for layer, passes in value.items():
                assert passes == pytest.approx(theirs[name][layer], rel=1e-3, abs=2e-6), layer
        elif isinstance(value, dict):
            assert value.keys() == theirs[name].keys(), name
            assert value == pytest.approx(theirs[name], rel=1e-3, abs=2e-6), name
        elif value is None:
            assert theirs[name] is None, name
        else:
            assert value == pytest.approx(theirs[name], rel=1e-3, abs=2e-6), name


@pytest.mark.parametrize(("ranks", "overlap"), [(1, True), (2, True), (2, False), (3, True)])
def test_the_trace_agrees_with_the_runs_results(tmp_path, ranks, overlap):
    results, out, path = trained(tmp_path, ranks=ranks, overlap=overlap)
    table = read_results(out / "run.json")
    assert table.to_json() == results["where_the_time_went"]
    close(explain_trace(read_trace(path), path), table)
    assert table.steps == 5
    assert len(table.compute_seconds_by_rank) == ranks
    assert (table.hidden_share is None) == (ranks == 1)
    parts = (
        table.forward_seconds, table.backward_weights_seconds, table.backward_data_seconds,
        table.update_seconds, table.exposed_communication_seconds, table.data_wait_seconds,
        table.rest_seconds,
    )  # fmt: skip
    assert sum(parts) == pytest.approx(table.step_seconds)
    assert min(parts) >= 0


def test_tracing_changes_no_bit(tmp_path, traced):
    plain = {**SHORT, "out": str(tmp_path)}
    results, _ = run_ranks(2, lambda world: run(world, lambda: new_run("digits", plain)))
    assert traced[0]["weights_sha256"] == results["weights_sha256"]
    assert traced[0]["final_loss"] == results["final_loss"]


def test_a_trace_has_the_form_that_perfetto_reads(traced):
    content = json.loads(traced[2].read_text())
    assert errors(content, SCHEMA) == []
    assert crossings(event for event in content["traceEvents"] if event["ph"] == "X") == []


def test_a_trace_has_all_passes_jobs_and_minibatches_of_every_rank(traced):
    for spans in read_trace(traced[2]).ranks:
        names = [span.name for span in spans]
        for number in range(1, 9):
            assert names.count(f"step {number}") == 1
        for direction in PASSES:
            assert names.count(f"conv2 {direction}") >= 8
        assert names.count("conv1 backward_weights") == 8
        assert "conv1 backward_data" not in names
        jobs = [span.name for span in spans if span.attributes.get("kind") == "job"]
        exchanges = [span.name for span in spans if span.attributes.get("kind") == "exchange"]
        for job in (f"reduce {BUCKET}", f"update {BUCKET}", "gather loss"):
            assert jobs.count(job) > 8
            assert exchanges.count(job) == jobs.count(job)
        assert sum(span.row == DATA for span in spans) >= 8
        main = [span.name for span in spans if span.row == COMPUTE]
        assert main.count("evaluation") == 1
        assert main.count("checkpoint") == 2
        assert main.count("communication alone") == 1
    steps = [next(span for span in spans if span.name == "step 5") for spans in read_trace(traced[2]).ranks]
    assert max(step.start for step in steps) < min(step.end for step in steps)


def test_the_table_is_printed_from_a_folder_its_results_and_a_trace(traced, capsys):
    _, out, path = traced
    outputs = []
    for given in (out, out / "run.json", path):
        assert main([str(given)]) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]
    assert outputs[0].startswith("where the time went: ")
    for line in outputs[0].splitlines():
        label = re.split(r"  +\d| *:", line)[0]
        assert label in outputs[2]
    assert main([str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 5


@pytest.mark.parametrize(("name", "magic"), [("step.png", b"\x89PNG"), ("step.svg", b"<?xml")])
def test_a_step_is_drawn(tmp_path, traced, name, magic):
    pytest.importorskip("matplotlib")
    assert main([str(traced[2]), "--out", str(tmp_path / name), "--step", "3"]) == 0
    content = (tmp_path / name).read_bytes()
    assert content.startswith(magic)
    if name.endswith("svg"):
        for text in (b"rank 0 compute", b"rank 1 communication", b"step 3: ", b"backward weights"):
            assert b"<!-- " + text in content


def test_the_step_to_draw_is_of_median_length(traced):
    trace = read_trace(traced[2])
    step = explain._one_step(trace, None)
    lengths = sorted(span.end - span.start for span in steady_steps(trace.ranks[0]))
    assert step.end - step.start == lengths[len(lengths) // 2]


def test_of_many_ranks_the_slowest_is_drawn_with_those_around_it():
    assert explain._shown(3, 1) == range(3)
    assert explain._shown(16, 15) == range(16)
    for slowest in (0, 7, 150, 299):
        shown = explain._shown(300, slowest)
        assert slowest in shown
        assert len(shown) == 16
        assert 0 <= shown.start < shown.stop <= 300


MISTAKES = {
    "no such path": (["{tmp}/none"], r"none: cannot be read: No such file"),
    "a folder that is no run": (["{tmp}"], r"run\.json: cannot be read: No such file"),
    "another kind of file": (["{tmp}/other.json"], r"other\.json: is not a trace written by engine\.train"),
    "results without a table": (["{tmp}/old/run.json"], r"run\.json: does not say where the time went"),
    "a picture of a run": (["{out}", "--out", "a.png"], r"out: a picture is drawn from a trace: run with"),
    "a picture of another kind": (["{path}", "--out", "a.gif"], r"out: got a\.gif; must end in \.png or"),
    "a missing folder": (["{path}", "--out", "{tmp}/none/a.png"], r"out: .*a\.png: there is no folder"),
    "a missing step": (["{path}", "--out", "a.png", "--step", "9"], r"step: got 9; the trace has 1 to 8"),
    "a step without a picture": (["{path}", "--step", "2"], r"step: says which step to draw; give --out"),
    "an unknown home": (["~nosuchuser/x"], r"path: got .*; there is no such home folder"),
}  # fmt: skip


def test_a_picture_that_is_there_is_not_written_over_unless_asked(tmp_path, traced, capsys):
    pytest.importorskip("matplotlib")
    (path := tmp_path / "notes.png").write_text("mine")
    assert main([str(traced[2]), "--out", str(path)]) == 2
    assert f"out: {path}: exists; give another name, or --overwrite" in capsys.readouterr().err
    assert path.read_text() == "mine"
    assert main([str(traced[2]), "--out", str(path), "--overwrite"]) == 0
    assert path.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_clear_line_and_exit_code_2(tmp_path, traced, capsys, mistake):
    (tmp_path / "other.json").write_text("{}")
    (tmp_path / "old").mkdir()
    (tmp_path / "old/run.json").write_text('{"steps": 3}')
    arguments, message = MISTAKES[mistake]
    places = {"tmp": tmp_path, "out": traced[1], "path": traced[2]}
    assert main([argument.format(**places) for argument in arguments]) == 2
    assert re.fullmatch(f"error: .*{message}.*\n", capsys.readouterr().err)


def test_an_unknown_option_is_one_clear_line(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--pretty"])
    assert end.value.code == 2
    assert re.fullmatch(r"error: .*; --help lists all options\n", capsys.readouterr().err)


def test_a_missing_matplotlib_names_the_extra(tmp_path, traced, capsys, monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name.startswith("matplotlib"):
            raise ModuleNotFoundError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    assert main([str(traced[2]), "--out", str(tmp_path / "a.png")]) == 2
    assert capsys.readouterr().err.endswith("need the extra plot: pip install 'lockstep-sgd[plot]'\n")
