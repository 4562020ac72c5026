"""The plan command: its tables, its JSON, its pictures, and what it says to a mistake."""

import builtins
import json
import re
import subprocess
import sys
from functools import partial

import pytest

from comm.threads import single_rank
from engine import plan
from engine.explain import explain_trace
from engine.plan import main
from engine.planner.cluster import read_cluster
from engine.planner.measurement import measure
from engine.profile.trace_file import read_trace


def printed(capsys, *arguments):
    assert main(arguments) == 0
    return capsys.readouterr().out


def refused(capsys, *arguments):
    assert main(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    (line,) = shown.err.strip().splitlines()
    return line


def test_help_teaches_by_example(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--help"])
    assert end.value.code == 0
    shown = capsys.readouterr().out
    assert "  python -m engine.plan --model vgg_a --nodes 128" in shown.split("examples:")[1]
    assert "cori_phase1" in shown


def test_a_reader_that_closes_its_end_is_no_error():
    command = f"{sys.executable} -m engine.plan --model digits --nodes 2 --batch 64 | true"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_the_table_and_the_json_say_the_same(capsys):
    given = ("--model", "digits", "--nodes", "4", "--batch", "64")
    text, table = printed(capsys, *given), json.loads(printed(capsys, *given, "--json"))
    best = table["points"][0]
    assert f"plan {best['plan']}" in text
    assert f"{best['step_seconds'] * 1e3:,.1f} ms" in text
    assert f"bound by  {table['bound']}" in text
    assert table["command"] in text
    assert (table["nodes"], table["batch"], table["cluster"]) == (4, 64, "aws_c4_8xlarge")
    assert best["step_seconds"] <= 1.011 * min(point["step_seconds"] for point in table["points"])


def test_a_given_plan_is_not_searched_for(capsys):
    given = ("--model", "digits", "--nodes", "4", "--json", "--plan")
    assert {point["plan"] for point in json.loads(printed(capsys, *given, "fc4=2"))["points"]} == {"fc4=2"}
    assert {point["plan"] for point in json.loads(printed(capsys, *given, "data"))["points"]} == {"data"}


@pytest.fixture
def _one_schedule(monkeypatch):
    """Predict one point, not its variants too: messages of large layers take long to simulate."""
    monkeypatch.setattr(plan, "search", partial(plan.search, thorough=False))


@pytest.mark.usefixtures("_one_schedule")
def test_what_an_update_costs_and_what_clipping_holds_back_is_predicted(capsys):
    def step(*options):
        given = ("--model", "overfeat_fast", "--nodes", "4", "--plan", "data", "--json")
        return json.loads(printed(capsys, *given, *options))["points"][0]["step_seconds"]

    plain = step()
    assert step("--optimizer", "sgd") == plain
    assert plain < step("--optimizer", "adamw")
    assert 1.01 * plain < step("--clip")


@pytest.mark.usefixtures("_one_schedule")
def test_frozen_layers_cost_no_gradient_and_no_message(capsys):
    def found(*options):
        given = ("--model", "overfeat_fast", "--nodes", "4", "--plan", "data", "--json")
        table = json.loads(printed(capsys, *given, *options))
        return table, table["points"][0]["step_seconds"]

    (_, whole), (table, head) = found(), found("--freeze", "conv*,fc6")
    assert head < 0.5 * whole
    assert "--freeze 'conv*,fc6'" in table["command"]


@pytest.mark.usefixtures("_one_schedule")
def test_a_precision_that_is_not_the_usual_one_is_planned_said_and_trained_with(capsys):
    given = ("--model", "digits", "--nodes", "2", "--batch", "64")
    usual = json.loads(printed(capsys, *given, "--json"))
    table = json.loads(printed(capsys, *given, "--json", "--precision", "bf16"))
    assert table["precision"] == "bf16"
    assert table["command"].replace(" --precision bf16", "", 1) == usual["command"] != table["command"]
    assert table["bytes_held_per_rank"] > usual["bytes_held_per_rank"]
    assert "precision" not in usual
    assert "16 leaves, products of bf16\n" in printed(capsys, *given, "--precision", "bf16")


def test_the_command_of_a_network_without_a_recipe_names_it_as_a_model(capsys):
    given = ("--model", "resnet18", "--batch", "32", "--norm-groups", "2", "--plan", "data", "--json")
    words = json.loads(printed(capsys, *given))["command"].split()
    assert words[words.index("engine.train") :][1:3] == ["--model", "resnet18"]
    assert words[-2:] == ["--norm-groups", "2"]


def test_threads_leaves_and_ranks_of_a_node_are_taken(capsys):
    given = ("--model", "digits", "--nodes", "2", "--batch", "64", "--threads", "3", "--leaves", "32")
    table = json.loads(printed(capsys, *given, "--ranks-per-node", "4", "--json"))
    assert (table["threads"], table["leaves"], table["ranks_per_node"]) == (3, 32, 4)
    assert table["command"].startswith("mpirun -n 8 ")


def test_memory_is_told_and_what_would_fit(capsys):
    given = ("--model", "digits", "--nodes", "2", "--batch", "512", "--cores", "4", "--plan", "data")
    text = printed(capsys, *given)
    assert re.search(
        r"^memory +\d+\.\d+ .B a rank: .* weights, gradients and momentum, .* values", text, re.M
    )
    assert "warning" not in text
    held = json.loads(printed(capsys, *given, "--json"))["bytes_held_per_rank"]
    small = (*given, "--memory-gb", f"{0.5 * held / 1e9:.6f}")
    warned = re.search(
        r"^warning: 1 rank on a node need .*: --accumulate (\d+) fits$", printed(capsys, *small), re.M
    )
    assert warned
    parts = ("--accumulate", warned[1])
    text = printed(capsys, *small, *parts)
    assert f"a rank, for one of {warned[1]} microbatches: " in text
    assert "warning" not in text
    table = json.loads(printed(capsys, *small, *parts, "--json"))
    assert table["accumulate"] == int(warned[1])
    assert table["bytes_held_per_rank"] <= 0.5 * held
    assert f"--accumulate {warned[1]}" in table["command"]


def test_nodes_are_described_in_a_few_words(capsys):
    given = ("--model", "digits", "--nodes", "2", "--batch", "64", "--cores", "8", "--simd", "avx512")
    text, table = printed(capsys, *given), json.loads(printed(capsys, *given, "--json"))
    assert "a described cluster: 8 cores of 2.5 GHz with avx512" in text
    assert f"\nassumed: {', '.join(table['assumed'])}\n" in text
    assert "2.5 GHz on all cores while they compute" in table["assumed"]
    assert refused(capsys, *given, "--cluster", "cori_phase1").startswith(
        "error: cluster: goes without --cores"
    )


def test_the_default_cluster_is_named_with_its_year(capsys):
    text = printed(capsys, "--model", "digits", "--nodes", "2", "--batch", "64")
    assert "aws_c4_8xlarge: EC2 c4.8xlarge of 2015" in text
    assert "\nassumed: the cluster aws_c4_8xlarge; name yours by --cluster" in text


def test_a_sweep_and_a_single_query_agree(capsys):
    given = ("--model", "digits", "--batch", "64", "--json")
    (row,) = json.loads(printed(capsys, *given, "--sweep", "nodes=4"))["rows"]
    single = json.loads(printed(capsys, *given, "--nodes", "4"))
    single.pop("assumed")
    assert row == single


def test_a_measured_peak_is_explained(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "start_ranks", single_rank)
    monkeypatch.setattr(measure, "measure", partial(measure.measure, seconds=0.01))
    path = tmp_path / "mine.toml"
    said = printed(capsys, "--model", "digits", "--batch", "64", "--measure", "--out", str(path))
    assert "Winograd does with fewer, and may come out above the peak of the cores" in said
    assert path.read_text().startswith("# flops_per_s is the rate of the fastest kind of kernels")


def test_the_minibatch_is_the_recipes_unless_given(capsys):
    assert json.loads(printed(capsys, "--model", "cd_dnn", "--json"))["batch"] == 1024


def test_a_sweep_is_a_table_and_a_picture(capsys, tmp_path):
    given = ("--model", "digits", "--batch", "64", "--sweep", "nodes=1..4")
    for name, first in (("curve.png", b"\x89PNG"), ("curve.svg", b"<?xml")):
        text = printed(capsys, *given, "--out", str(tmp_path / name))
        assert (tmp_path / name).read_bytes().startswith(first)
    assert [line.split()[0] for line in text.splitlines()[4:7]] == ["1", "2", "4"]
    rows = json.loads(printed(capsys, *given, "--json"))["rows"]
    assert [row["nodes"] for row in rows] == [1, 2, 4]


def test_the_picture_shows_the_papers_point(capsys, tmp_path):
    given = ("--model", "vgg_a", "--batch", "512", "--cluster", "cori_phase1", "--sweep", "nodes=1,128")
    text = printed(capsys, *given, "--out", str(tmp_path / "curve.svg"))
    assert text.splitlines()[2].endswith("paper")
    assert text.splitlines()[4].endswith("90.0")
    svg = (tmp_path / "curve.svg").read_text()
    assert "<!-- paper -->" in svg
    assert "<!-- ideal -->" in svg


def test_layers_are_a_table_and_the_same_as_json(capsys):
    given = ("--model", "cd_dnn", "--nodes", "16", "--cluster", "endeavor_fdr", "--layers")
    text, table = printed(capsys, *given), json.loads(printed(capsys, *given, "--json"))
    assert (table["nodes"], table["batch"], table["cluster"]) == (16, 1024, "endeavor_fdr")
    rows = [line.split() for line in text.splitlines() if line.startswith("fc")]
    assert [row[0] for row in rows] == [layer["name"] for layer in table["layers"]]
    assert f"efficiency {table['efficiency']:.0%}" in text
    message = "error: layers: a table of one number of nodes, with neither --sweep, --trace nor --out"
    assert refused(capsys, *given, "--trace", "step.json") == message


def test_what_is_measured_is_a_cluster_to_plan_with(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "start_ranks", single_rank)
    monkeypatch.setattr(measure, "measure", partial(measure.measure, seconds=0.01))
    path = tmp_path / "mine.toml"
    given = ("--model", "digits", "--nodes", "2", "--batch", "64")
    printed(capsys, *given, "--measure", "--out", str(path))
    described = read_cluster(str(path))
    assert described.name == "mine"
    assert {kernel.samples for kernel in described.kernels} >= {32, 64}, "data parallel, and split over two"
    assert json.loads(printed(capsys, *given, "--cluster", str(path), "--json"))["cluster"] == "mine"
    assert main([*given, "--measure"]) == 2
    assert "give --out FILE.toml" in capsys.readouterr().err


@pytest.mark.parametrize("nodes", ["1", "3", "4"])
def test_the_trace_is_explained_as_predicted(capsys, tmp_path, nodes):
    path = tmp_path / "trace.json"
    given = ("--model", "digits", "--nodes", nodes, "--json", "--trace", str(path))
    predicted = json.loads(printed(capsys, *given))["points"][0]["where_the_time_went"]
    explained = explain_trace(read_trace(path), path).to_json()
    assert (explained["hidden_share"] is None) == (nodes == "1")
    for name in ("step_seconds", "forward_seconds", "exposed_communication_seconds", "hidden_share"):
        if predicted[name] is None:
            continue
        assert explained[name] == pytest.approx(predicted[name], rel=1e-3, abs=1e-7), name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "vga_a"], 'error: model: got "vga_a" (did you mean "vgg_a"?)'),
        (["--nodes", "0"], "error: nodes: got 0; must be at least 1"),
        (["--nodes", "512", "--batch", "256"], "error: batch: 256 samples are too few for 512 ranks"),
        (["--nodes", "8", "--batch", "100"], "error: batch: 100 does not divide into 16 leaves"),
        (["--cluster", "cori_phase2"], 'error: cluster: got "cori_phase2" (did you mean "cori_phase1"?)'),
        (["--nodes", "4", "--plan", "fc6=3"], "error: plan: fc6=3: 3 parts; must be a power of two"),
        (
            ["--accumulate", "8", "--nodes", "4"],
            "error: accumulate: got 8 with 16 leaves on 4 ranks; must be one of 1, 2, 4",
        ),
        (["--freeze", "konv*"], 'error: freeze: got "konv*", which fits no layer with weights'),
        (["--freeze", "*"], "error: freeze: got *, which leaves no layer with weights to train"),
        (["--plan", "magic"], 'error: plan: got "magic"'),
        (["--sweep", "nodes=x"], 'error: sweep: got "nodes=x"'),
        (["--sweep", "nodes=1..4", "--nodes", "4"], "error: sweep: goes with neither --nodes nor --trace"),
        (["--out", "curve.png"], "error: out: a curve is drawn of a sweep"),
        (["--trace", "/nowhere/at/all"], "error: trace: /nowhere/at/all: there is no folder /nowhere/at"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(capsys, arguments, message):
    assert refused(capsys, *arguments).startswith(message)


def test_an_unknown_option_is_one_line(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--nodse", "4"])
    assert end.value.code == 2
    assert capsys.readouterr().err == (
        'error: unrecognized arguments: --nodse 4 (did you mean "--nodes"?); --help lists all options\n'
    )


@pytest.mark.parametrize("asked", [("--sweep", "nodes=1"), ("--measure",)])
def test_a_file_that_is_there_is_not_written_over_unless_asked(capsys, tmp_path, monkeypatch, asked):
    monkeypatch.setattr(plan, "start_ranks", single_rank)
    monkeypatch.setattr(measure, "measure", partial(measure.measure, seconds=0.01))
    (path := tmp_path / "notes.svg").write_text("mine")
    given = ("--model", "digits", "--batch", "64", *asked, "--out", str(path))
    assert refused(capsys, *given) == f"error: out: {path}: exists; give another name, or --overwrite"
    assert path.read_text() == "mine"
    printed(capsys, *given, "--overwrite")
    assert path.read_text() != "mine"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("recipe.toml", "is a file of a run, which no other takes the place of"),
        ("mine.toml", "is what is read here, and is not written over"),
    ],
)
def test_neither_a_runs_recipe_nor_the_cluster_that_is_read_is_written_over(
    capsys, tmp_path, monkeypatch, name, said
):
    monkeypatch.setattr(plan, "start_ranks", single_rank)
    (path := tmp_path / name).write_text("mine")
    given = ("--model", "digits", "--measure", "--cluster", str(path), "--out", str(path), "--overwrite")
    assert refused(capsys, *given) == f"error: out: {path}: {said}; give another name"
    assert path.read_text() == "mine"


def test_a_picture_of_another_kind_or_without_matplotlib_is_refused(capsys, tmp_path, monkeypatch):
    given = ("--model", "digits", "--sweep", "nodes=1", "--out")
    assert main([*given, str(tmp_path / "curve.gif")]) == 2
    assert "must end in .png or .svg" in capsys.readouterr().err
    really = builtins.__import__

    def without(name, *rest):
        if name.startswith("matplotlib"):
            raise ImportError
        return really(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    assert main([*given, str(tmp_path / "curve.png")]) == 2
    assert "pip install 'lockstep-sgd[plot]'" in capsys.readouterr().err
