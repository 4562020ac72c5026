"""The numbers of runs as CSV."""

import csv
import io

from engine.report import csv_file
from engine.report.csv_file import BEGIN, COLUMNS, table
from engine.report.run_record import read_runs
from tests.engine.report.written import write_run


def rows(*folders):
    text = b"".join(table(read_runs([str(each) for each in folders]))).decode()
    assert text.startswith(BEGIN)
    return list(csv.DictReader(io.StringIO(text)))


def test_every_step_and_every_evaluation_is_a_row(tmp_path):
    found = rows(write_run(tmp_path / "a"), write_run(tmp_path / "b", steps=10))
    assert [(row["run"], row["kind"]) for row in found] == (
        [("a", "step")] * 40 + [("a", "epoch")] * 4 + [("b", "step")] * 10 + [("b", "epoch")]
    )
    assert tuple(found[0]) == COLUMNS
    (run,) = read_runs([str(tmp_path / "a")])
    for row, loss in zip(found[:40], run.steps.values["loss"], strict=True):
        assert float(row["loss"]) == loss, "all digits"
    assert (found[0]["step"], found[0]["epoch"], found[0]["test_loss"]) == ("1", "0", "")
    assert found[40]["test_accuracy"]
    assert found[40]["loss"] == ""


def test_a_name_with_commas_and_quotes_stays_one_field(tmp_path):
    folder = write_run(tmp_path / 'a,"b"\nc', steps=1)
    (row,) = rows(folder)
    assert row["run"] == 'a,"b"\\nc'


def test_what_is_not_finite_is_empty(tmp_path):
    folder = write_run(tmp_path / "a", steps=1)
    (folder / "metrics.jsonl").write_text('{"kind": "step", "step": 1, "loss": null, "rate": 1e-30}')
    (row,) = rows(folder)
    assert (row["loss"], row["rate"]) == ("", "1e-30")


def test_a_long_run_comes_in_pieces(tmp_path):
    pieces = list(table(read_runs([str(write_run(tmp_path, steps=25_000, steps_per_epoch=25_000))])))
    assert len(pieces) > 3
    assert b"".join(pieces).count(b"\n") == 25_002


def test_where_pieces_meet_no_row_is_lost_or_twice(tmp_path, monkeypatch):
    folder = write_run(tmp_path)
    whole = b"".join(table(read_runs([str(folder)])))
    monkeypatch.setattr(csv_file, "_PIECE", 8)
    pieces = list(table(read_runs([str(folder)])))
    assert b"".join(pieces) == whole
    assert [piece.count(b"\n") for piece in pieces] == [1, 8, 8, 8, 8, 8, 0, 4]
