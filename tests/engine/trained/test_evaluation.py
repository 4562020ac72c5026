"""The figures of an evaluation: sums, table, JSON, picture."""

import json
from dataclasses import replace

import numpy as np
import pytest

from engine.config.errors import UserError
from engine.config.recipe import Recipe
from engine.trained.confusion_picture import draw_confusion, title_of
from engine.trained.evaluation import MOST_ROWS, Evaluation
from engine.trained.measuring import Measured, total_loss


def evaluation(labels, found, places, *, names=("ape", "bee", "cat"), losses=None):
    measured = Measured(
        np.ones(len(labels)) if losses is None else np.array(losses, np.float64),
        np.array(labels), np.array(found), np.array(places), ("x.png: cannot be decoded",),
    )  # fmt: skip
    return Evaluation.of(measured, Recipe(), names, data="images:x", split="test", step=3, tta="")


SMALL = evaluation([0, 0, 1, -1], [0, 1, 1, 0], [0, 1, 0, 0], losses=[1, 2, 3, 0])


def test_samples_that_could_not_be_read_count_nothing():
    assert (SMALL.samples, SMALL.loss, SMALL.accuracy) == (3, 2.0, 2 / 3)
    assert SMALL.top5_accuracy is None
    assert SMALL.confusion.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]


def test_precision_and_recall_of_nothing_are_no_numbers():
    np.testing.assert_array_equal(SMALL.recall, [0.5, 1, np.nan])
    np.testing.assert_array_equal(SMALL.precision, [1, 0.5, np.nan])
    told = json.loads(json.dumps(SMALL.to_json(), allow_nan=False))
    assert told["classes"][2] == {"name": "cat", "count": 0, "precision": None, "recall": None}
    assert told["skipped"] == ["x.png: cannot be decoded"]
    nothing = evaluation([-1], [0], [0]).to_json()
    assert (nothing["loss"], nothing["accuracy"], nothing["samples"]) == (None, None, 0)


def test_the_table_has_the_classes_that_samples_have_and_what_is_confused():
    lines = SMALL.lines()
    assert lines[0] == "images:x, test: 3 samples; 1 sample could not be read"
    assert lines[1] == "loss 2.0000   top-1 66.67%"
    assert [line.split() for line in lines[3:6]] == [
        ["class", "count", "precision", "recall"], ["ape", "2", "1.0000", "0.5000"],
        ["bee", "1", "0.5000", "1.0000"],
    ]  # fmt: skip
    assert [line.split() for line in lines[8:11]] == [
        ["ape", "bee", "cat"], ["ape", "1", "1", "."], ["bee", ".", "1", "."],
    ]  # fmt: skip
    assert lines[-1] == "most often taken for another: ape for bee (1)"


@pytest.mark.parametrize(("name", "is_cut"), [("nine char", False), ("ten letter", True)])
def test_names_that_are_too_long_for_a_column_are_numbers_there_and_never_cut(name, is_cut):
    lines = replace(SMALL, class_names=("ape", name, name.upper())).lines()
    start = next(place for place, line in enumerate(lines) if line.startswith("confusion: "))
    if is_cut:
        assert lines[start].endswith("a column for what was found, by the rows' numbers")
        assert lines[start + 1].split() == ["1", "2", "3"]
        assert [line[:13] for line in lines[start + 2 : start + 5]] == [
            " 1 ape       ", f" 2 {name}", f" 3 {name.upper()}",
        ]  # fmt: skip
    else:
        assert lines[start + 1].endswith(f" ape {name} {name.upper()}")


def test_the_picture_says_that_samples_were_seen_twice():
    assert title_of(SMALL) == "images:x, test: top-1 66.67%"
    assert title_of(replace(SMALL, tta="mirror")) == (
        "images:x, test, each seen twice, once left to right: top-1 66.67%"
    )


def test_of_many_classes_the_worst_are_shown():
    labels = np.arange(100)
    found = np.where(labels < 7, 99, labels)
    lines = evaluation(labels, found, labels < 7, names=tuple(f"c{label}" for label in labels)).lines()
    assert lines[3] == f"the {MOST_ROWS} classes of lowest recall; --json has all"
    assert [line.split()[0] for line in lines[5:12]] == [f"c{label}" for label in range(7)]
    assert len(lines) == 5 + MOST_ROWS + 2
    assert "top-5 100.00%" in lines[1]


def test_the_loss_is_added_as_a_run_adds_it():
    losses = np.random.default_rng(1).random(100)
    total = 0.0
    for start in range(0, 100, 32):
        leaves = [sum(losses[first : first + 8].tolist()) for first in range(start, start + 32, 8)]
        total += (leaves[0] + leaves[1]) + (leaves[2] + leaves[3])
    assert total_loss(losses, batch=32, leaves=4) == total


@pytest.mark.parametrize(("ending", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml")])
def test_a_picture_is_written_whole(tmp_path, ending, start):
    pytest.importorskip("matplotlib", reason="the extra plot is not installed")
    odd = replace(SMALL, class_names=("$x_$", "a" * 40, "\\q"))  # not as formulas
    draw_confusion(odd, tmp_path / f"c{ending}")
    assert (tmp_path / f"c{ending}").read_bytes().startswith(start)
    assert len(list(tmp_path.iterdir())) == 1


def test_a_picture_of_another_ending_or_in_no_folder_is_refused(tmp_path):
    pytest.importorskip("matplotlib", reason="the extra plot is not installed")
    with pytest.raises(UserError, match=r"picture: got .*c\.pdf; must end in"):
        draw_confusion(SMALL, tmp_path / "c.pdf")
    with pytest.raises(UserError, match=r"picture: .*c\.png: cannot be written: No such file"):
        draw_confusion(SMALL, tmp_path / "no" / "c.png")
