"""Curves in a terminal."""

import pytest

from engine.report.run_record import read_runs
from engine.report.text import LINES, Style, lines
from tests.engine.report.written import RESULTS, write_run

PLAIN = Style(80, blocks=True, colours=False)


def records(folder, count=1, **given):
    return read_runs([str(write_run(folder / f"run{n}", seed=n, **given)) for n in range(count)])


def chart(found: list[str], title: str) -> list[str]:
    start = found.index(title) + 1
    return found[start : start + LINES + 1]


@pytest.mark.parametrize("width", [1, 40, 79, 120, 1000])
def test_no_line_is_wider_than_the_terminal(tmp_path, width):
    found = lines(records(tmp_path), Style(width, blocks=True, colours=False))
    assert max(map(len, chart(found, "loss of a step"))) <= min(max(width, 40), 160) - 1


def test_the_curve_falls_from_the_first_line_to_the_last(tmp_path):
    found = chart(lines(records(tmp_path), PLAIN), "loss of a step")
    inside = [line[11:] for line in found[:LINES]]
    assert inside[0].strip()
    assert inside[-1].strip()
    assert len(inside[0]) - len(inside[0].lstrip()) < 20 < len(inside[-1])
    assert found[-1].split() == ["step", "1", "40"]
    assert float(found[0].split()[0]) > float(found[LINES - 1].split()[0])


def test_without_blocks_it_is_ascii(tmp_path):
    found = lines(records(tmp_path), Style(80, blocks=False, colours=False))
    assert "*" in "".join(chart(found, "loss of a step"))
    assert all(line.isascii() for line in chart(found, "loss of a step"))


def test_colours_are_for_terminals_alone(tmp_path):
    runs = records(tmp_path, 2)
    assert "\x1b" not in "\n".join(lines(runs, PLAIN))
    coloured = "\n".join(lines(runs, Style(80, blocks=True, colours=True)))
    assert "\x1b[34m" in coloured
    assert "\x1b[33m" in coloured


def test_runs_over_one_another_are_told_apart_without_colours(tmp_path):
    found = lines(records(tmp_path, 2), PLAIN)
    assert found[0].startswith("* run0: network digits")
    assert any(line.startswith("o run1: ") for line in found)
    marks = "".join(chart(found, "loss of a step"))
    assert "*" in marks
    assert "o" in marks


def test_the_tables_follow(tmp_path):
    found = lines(records(tmp_path), PLAIN)
    assert any(line.startswith("where the time went: 4.00 ms a step") for line in found)
    (row,) = [line for line in found if line.startswith("conv1 ")]
    assert row.split() == ["conv1", "0.900", "0.450", "2.00"]
    assert any("share 2 cores" in line for line in found), "a warning of the run"


@pytest.mark.parametrize("given", [{"steps": 0}, {"steps": 1}, {"results": None}, {"results": {"steps": 3}}])
def test_odd_runs_are_told(tmp_path, given):
    found = lines(records(tmp_path, **given), PLAIN)
    assert found[0].startswith("run0: ")
    assert ("loss of a step" in found) == (given.get("steps") != 0)


def test_nothing_in_a_name_moves_the_cursor(tmp_path):
    layers = {"\x1b[2J": {"forward": 0.001}}
    where = {**RESULTS["where_the_time_went"], "seconds_by_layer": layers}
    results = {**RESULTS, "model": "\x1b[31mred", "where_the_time_went": where, "warnings": ["\x1b]0;x\x07"]}
    found = "\n".join(lines(records(tmp_path, results=results), PLAIN))
    assert "\x1b" not in found
    assert "\\x1b[2J" in found


def test_a_straight_line_is_drawn_as_one(tmp_path):
    write_run(tmp_path, steps=0, results=None)
    lines_of = [f'{{"kind": "step", "step": {n}, "loss": {25 - n}}}' for n in range(2, 25)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines_of))
    (run,) = read_runs([str(tmp_path)])
    found = chart(lines([run], Style(1, blocks=True, colours=False)), "loss of a step")
    assert "\n".join(found) == STRAIGHT


STRAIGHT = """\
        23 ▀▄
             ▀▀▄
                ▀▄
                  ▀▀▄
                     ▀▄
                       ▀▄
        11               ▀▄
                           ▀▄
                             ▀▀▄
                                ▀▄
                                  ▀▀▄
         1                           ▀▄
           step 2                    24"""


def test_a_jump_is_a_line_upwards_and_a_gap_is_bridged(tmp_path):
    write_run(tmp_path, steps=0, results=None)
    values = {1: 0, 2: 0, 3: 1, 4: 1}
    lines_of = [f'{{"kind": "step", "step": {n}, "loss": {value}}}' for n, value in values.items()]
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines_of))
    (run,) = read_runs([str(tmp_path)])
    found = chart(lines([run], Style(40, blocks=True, colours=False)), "loss of a step")
    inside = [line[11:] for line in found[:LINES]]
    assert inside[0].strip() == "\N{UPPER HALF BLOCK}" * len(inside[0].strip())
    assert inside[-1].strip() == "\N{LOWER HALF BLOCK}" * len(inside[-1].strip())
    columns = {column for line in inside for column, mark in enumerate(line) if mark != " "}
    assert columns == set(range(max(columns) + 1)), "no column is empty"


def test_curves_of_different_lengths_share_their_axis(tmp_path):
    long, short = write_run(tmp_path / "long", steps=80), write_run(tmp_path / "short", steps=20)
    found = lines(read_runs([str(short), str(long)]), PLAIN)
    assert chart(found, "loss of a step")[-1].split() == ["step", "1", "80"]
    width = max(line.rindex("*") for line in chart(found, "accuracy of a step")[:LINES] if "*" in line)
    assert width < 40


def test_runs_with_colours_have_a_block_of_their_colour_before_their_names(tmp_path):
    found = lines(records(tmp_path, 2), Style(80, blocks=True, colours=True))
    assert found[0].startswith("\x1b[34m\N{FULL BLOCK}\x1b[0m run0: ")
    assert "run0:" in found
    assert "run1:" in found


def test_a_run_without_values_does_not_hide_another(tmp_path):
    empty = write_run(tmp_path / "empty", steps=0, results=None)
    found = lines(read_runs([str(empty), str(write_run(tmp_path / "run"))]), PLAIN)
    at = found.index("loss of a step")
    assert found[at - 1] == ""
    assert "o" in "".join(found[at + 1 : at + 1 + LINES])


def test_one_value_alone_is_a_point(tmp_path):
    found = chart(lines(records(tmp_path, steps=1, tested=False), PLAIN), "loss of a step")
    assert "".join(line[11:] for line in found[:LINES]).strip() == "\N{LOWER HALF BLOCK}"


def test_what_was_changed_when_a_run_went_on_is_said(tmp_path):
    changes = [
        {"step": 1200, "what": "schedule.rate", "from": 0.05, "to": 0.0125},
        {"step": 1300, "what": "test set", "from": "ab (5 samples)", "to": None},
        {"what": "of an unknown version"},
        "nothing that a run wrote",
    ]
    found = lines(records(tmp_path, results={**RESULTS, "history": changes}), PLAIN)
    assert [line for line in found if "went on" in line] == [
        "  went on after step 1,200 with another schedule.rate: 0.0125, before 0.05",
        "  went on after step 1,300 with another test set: \N{EN DASH}, before ab (5 samples)",
    ]
