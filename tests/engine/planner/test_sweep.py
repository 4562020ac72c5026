"""A sweep over numbers of nodes, and the report of one of them."""

import json
from dataclasses import replace

import pytest

from engine.config.errors import UserError
from engine.config.recipe import FLOATS_PER_KIB, Recipe
from engine.planner.cluster import read_cluster
from engine.planner.report import Report, command
from engine.planner.search import Point, search, starting_point
from engine.planner.sweep import Sweep, read_nodes
from engine.train import _overrides, make_parser

AWS = read_cluster("aws_c4_8xlarge")


def searched(nodes, *, model="digits", batch=64, where=AWS) -> list[Point]:
    return search(starting_point(model, nodes, batch, where), where, thorough=False)


def report_of(nodes, **given) -> Report:
    return Report.of(given.get("where", AWS), searched(nodes, **given), searched(1, **given)[0])


@pytest.mark.parametrize(
    ("text", "nodes"),
    [
        ("nodes=1..8", [1, 2, 4, 8]),
        ("nodes=3..20", [3, 4, 8, 16, 20]),
        ("nodes=8,1,2,3,2", [1, 2, 3, 8]),
        (" nodes = 5 ", [5]),
    ],
)
def test_a_sweep_names_its_nodes(text, nodes):
    assert read_nodes(text) == nodes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1..8", r'^sweep: got "1\.\.8"; must be nodes=1\.\.256'),
        ("ranks=1..8", r"must be nodes="),
        ("nodes=", r"must be nodes="),
        ("nodes=1..", r"must be nodes="),
        ("nodes=1,two", r"must be nodes="),
        ("nodes=8..1", r"the first number must not be greater than the last$"),
        ("nodes=0..4", r"must be from 1 to 65,536$"),
        ("nodes=1..1000000", r"must be from 1 to 65,536$"),
    ],
)
def test_another_form_of_sweep_is_refused(text, message):
    with pytest.raises(UserError, match=message):
        read_nodes(text)


def test_a_sweep_says_which_nodes_are_too_many_and_goes_on():
    def each(nodes):
        return searched(nodes, batch=16)

    sweep = Sweep.of(AWS, [1, 2, 32], each, model="digits", batch=16, single=each(1)[0])
    assert [row.nodes for row in sweep.rows] == [1, 2, 32]
    assert sweep.rows[2].report is None
    *_, last = sweep.lines()
    assert last.lstrip().startswith("32  batch: 16 samples are too few for 32 ranks")
    rows = json.loads(json.dumps(sweep.to_json()))["rows"]
    assert rows[0]["points"][0]["speed_up"] == pytest.approx(1.0)
    assert rows[2]["error"].startswith("batch: 16 samples")
    with pytest.raises(UserError, match="too few for 32 ranks"):
        Sweep.of(AWS, [32], each, model="digits", batch=16, single=each(1)[0])


def test_the_papers_points_are_shown_where_they_belong():
    def papers(batch, cluster):
        single = searched(1, model="digits", batch=batch)
        sweep = Sweep.of(cluster, [1], lambda _: single, model="vgg_a", batch=batch, single=single[0])
        return sweep.paper, "paper" in sweep.lines()[2]

    cori = read_cluster("cori_phase1")
    assert papers(512, cori) == ({128: 90.0}, True)
    assert papers(256, cori) == ({64: 53.0}, True)
    assert papers(128, cori) == papers(512, AWS) == ({}, False)


def test_a_report_adds_up():
    report = report_of(4, model="cd_dnn", batch=1024)
    best = report.best
    assert report.nodes == 4
    assert report.speed_up(best) == report.single.step_seconds / best.step_seconds
    assert report.efficiency(best) == report.speed_up(best) / 4
    assert best.samples_per_second * best.step_seconds == pytest.approx(1024)
    table = json.loads(json.dumps(report.to_json()))
    assert table["points"][0]["step_seconds"] == best.step_seconds
    assert table["bound"] == report.bound
    text = "\n".join(report.lines())
    assert f"plan {best.design.plan}" in text
    assert f"{best.step_seconds * 1e3:,.1f} ms" in text
    assert f"bound by  {report.bound}" in text


def test_a_node_of_several_ranks_is_one_node():
    where = read_cluster("epyc_hdr")
    report = report_of(2, where=where)
    assert (report.nodes, report.best.design.ranks, report.single.design.ranks) == (2, 4, 2)
    assert report.to_json()["ranks_per_node"] == 2


def test_warnings_name_what_would_surprise():
    few = replace(AWS, machines=2)
    assert report_of(2, where=few).warnings() == []
    too_many = report_of(4, where=few).warnings()
    assert too_many == ["aws_c4_8xlarge has 2 nodes, not 4"]
    (uneven,) = report_of(3).warnings()
    assert uneven.startswith("3 ranks are no power of two")
    starved = report_of(16, model="cd_dnn", batch=16).warnings()
    assert any(warning.startswith("1 sample a rank: kernels starve") for warning in starved)


def test_the_command_trains_what_was_found():
    best = searched(4, model="cd_dnn", batch=1024)[0].design
    for design in (best, replace(best, chunk_floats=1 << 16, bucket_floats=0)):
        words = command(design, 2).split()
        launcher, options = words[: words.index("cd_dnn")], words[words.index("cd_dnn") :]
        placed = ["--hostfile", "hosts", "--map-by", "ppr:2:node", "--bind-to", "none"]
        assert launcher == ["mpirun", "-n", "4", *placed, "python", "-m", "engine.train"]
        changes = _overrides(make_parser().parse_args(options))
        assert changes.pop("data") == "synthetic"
        assert changes.pop("chunk_kib", Recipe().chunk_kib) * FLOATS_PER_KIB == design.chunk_floats
        assert changes.pop("bucket_kib", Recipe().bucket_kib) * FLOATS_PER_KIB == design.bucket_floats
        assert changes == {"batch": 1024, "leaves": 16, "threads": 17, "plan": str(best.plan)}
