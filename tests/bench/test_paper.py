"""The paper's results, predicted: nothing of them is read by what predicts."""

import json
from dataclasses import replace

import pytest

from bench import paper
from engine.planner.reported import PAPER, SINGLE_NODE

SPEECH = next(each for each in PAPER if each.model == "cd_dnn")


@pytest.fixture(scope="module")
def row():
    return paper.Row.of(SPEECH)


def test_the_papers_schedule_is_hybrid_and_first_come_first_served(row):
    assert not row.paper.design.prioritised
    assert row.paper.design.plan.parts in (4, 8), "G* is 2.8 of 16 ranks"
    assert set(row.paper.design.plan.split) == {f"fc{layer}" for layer in range(1, 9)}
    assert row.ours.step_seconds <= row.paper.step_seconds


def test_what_is_reported_changes_no_prediction(row):
    other = paper.Row.of(replace(SPEECH, speed_up=1.0, samples_per_second=1.0))
    assert other.paper == row.paper
    assert other.ours == row.ours
    assert other.ratio == pytest.approx(row.ratio * SPEECH.speed_up)


def test_gaps_are_told_in_both_directions(row):
    assert row.ratio != 1.0
    predicted = row.speed_up(row.paper)
    less, more = (
        paper.Row(replace(SPEECH, speed_up=predicted * factor), row.single, row.paper, row.ours).gap()
        for factor in (0.5, 2.0)
    )
    assert f"{row.paper.step_seconds * 1e3:,.1f} ms more. Computation" in less
    assert f"{row.paper.step_seconds * 1e3 / 2:,.1f} ms less. The paper must have hidden" in more


def test_the_command_prints_a_table_and_json(row, capsys, monkeypatch):
    monkeypatch.setattr(paper.Row, "of", lambda _: row)
    monkeypatch.setattr(paper, "PAPER", (SPEECH,))
    assert paper.main([]) == 0
    text = capsys.readouterr().out
    assert f"{row.speed_up(row.paper):.1f}x" in text
    assert "assumptions" in text
    assert max(map(len, text.splitlines())) <= 130
    assert paper.main(["--json"]) == 0
    (table,) = json.loads(capsys.readouterr().out)["rows"]
    assert table["paper_schedule"]["ratio"] == row.ratio
    assert table["speed_up"] == 6.5


def test_every_result_has_a_single_node_to_compare():
    assert {(each.model, each.cluster) for each in PAPER} == set(SINGLE_NODE)
