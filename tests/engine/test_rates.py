"""The command that finds a learning rate."""

import csv
import errno
import json
import re
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from comm.threads import run_ranks, single_rank
from engine.config.recipe import read_recipe
from engine.rates import main
from engine.run.launch import run
from engine.run.range_test import range_test, rising
from engine.run.start import new_run
from engine.run.unwritten import unwritten
from tests.mpi.launch import REPOSITORY

SHORT = ("--threads", "1", "--steps", "30", "--from", "1e-3", "--to", "1000")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Be in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def asked(capsys, *arguments):
    """Return the exit code, the output, and the errors."""
    code = main(list(map(str, arguments)))
    out, err = capsys.readouterr()
    return code, out, err


def test_a_rate_is_suggested_and_nothing_is_left(folder, capsys):
    code, out, err = asked(capsys, *SHORT, "--json")
    found = json.loads(out)
    assert code == 0
    assert found["diverged"]
    assert found["suggested_rate"] == found["lowest"]["rate"] / 10
    assert 1e-3 < found["lowest"]["rate"] < 1
    assert found["steps"] < 30
    assert "steps 0 to 30; 1 rank x 1 thread" in err
    assert list(folder.iterdir()) == []


def test_losses_are_those_of_a_run_with_the_same_course(folder, capsys):
    options = ["--threads", "1", "--steps", "20", "--from", "1e-3", "--to", "0.05", "--freeze", "conv1"]
    code, out, _ = asked(capsys, *options, "--out", "rates.csv")
    assert code == 0
    assert out.startswith("the loss has not diverged up to rate 0.05, step 20\nsuggested: --lr ")
    with (folder / "rates.csv").open(newline="", encoding="utf-8") as file:
        rows = [(float(row["rate"]), float(row["loss"])) for row in csv.DictReader(file)]
    changes = {"threads": 1, "freeze": ("conv1",), "epochs": 0, "steps": 20, "out": "run"}
    course = {"kind": "exponential", "rate": 1e-3, "end": 0.05 / 1e-3, "warmup_epochs": 0.0}
    changes |= {f"schedule.{name}": value for name, value in course.items()}
    run(single_rank(), lambda: new_run("digits", changes))
    lines = map(json.loads, (folder / "run/metrics.jsonl").read_text().splitlines())
    assert rows == [(line["rate"], line["loss"]) for line in lines if line["kind"] == "step"]


@pytest.mark.parametrize("ranks", [2, 3])
def test_the_curve_is_the_same_bits_on_any_ranks(ranks):
    changes = {"threads": 1, "optimizer.clip_norm": 1.0}

    def points(world):
        start = new_run("digits", changes)
        start = replace(start, recipe=rising(start.recipe, 1e-3, 10.0, 20))
        curve, is_interrupted = range_test(world, lambda: start)
        assert not is_interrupted
        return curve.points

    alone = points(single_rank())
    assert len(alone) > 10
    assert run_ranks(ranks, points) == [alone] * ranks


def test_a_rate_that_is_too_high_at_once_ends_it_without_a_suggestion(capsys):
    code, out, _ = asked(capsys, "--threads", "1", "--from", "1e15", "--to", "1e20", "--steps", "10")
    assert code == 0
    assert re.match(r"the loss has diverged at rate .*, step [2-5]\nnothing is suggested", out)


def test_a_picture_and_a_table_are_written(folder, capsys):
    pytest.importorskip("matplotlib", reason="the extra plot is not installed")
    files = ("--picture", "rates.svg", "--out", "rates.jsonl")
    assert asked(capsys, *SHORT, *files)[0] == 0
    picture, table = (folder / "rates.svg").read_text(), (folder / "rates.jsonl").read_text()
    assert picture.startswith("<?xml")
    assert [json.loads(line)["step"] for line in table.splitlines()][:3] == [1, 2, 3]
    code, _, err = asked(capsys, *SHORT, "--out", "rates.jsonl")
    assert (code, err) == (2, "error: out: rates.jsonl: exists; give another name, or --overwrite\n")
    assert asked(capsys, *SHORT, *files, "--overwrite")[0] == 0
    assert (folder / "rates.jsonl").read_text() == table


def test_without_matplotlib_the_extra_is_named(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    code, _, err = asked(capsys, *SHORT, "--picture", "rates.png")
    assert (code, err) == (
        2,
        "error: picture: pictures need the extra plot: pip install 'lockstep-sgd[plot]'\n",
    )


def test_what_a_recipe_says_of_its_course_and_of_what_it_saves_does_not_count():
    given = replace(read_recipe("vgg_a"), keep_best="test_loss", stop_after=3, trace="t", ema=0.9)
    recipe = unwritten(rising(given, 1e-4, 1.0, 50))
    assert (recipe.schedule.kind, recipe.schedule.warmup_epochs, recipe.epochs, recipe.steps) == (
        "exponential", 0, 0, 50
    )  # fmt: skip
    assert (recipe.metric, recipe.trace, recipe.checkpoint_every, recipe.evaluate_every) == ("", "", 0, 0)
    assert (recipe.optimizer, recipe.augment, recipe.ema) == (given.optimizer, given.augment, 0.9)


BAD = {
    "no rate": (
        ["--from", "0"],
        "from, to: got 0 and 10; must be rates from 1e-09 to 1e+20, the second larger",
    ),
    "no end": (["--to", "inf"], "from, to: got 1e-05 and inf; must be rates from"),
    "too wide": (["--from", "1e-300", "--to", "1e19"], "from, to: got 1e-300 and 1e+19; must be rates from"),
    "a fall": (["--from", "1", "--to", "0.1"], "from, to: got 1 and 0.1; must be rates"),
    "not a number": (["--from", "nan"], "from, to: got nan and 10"),
    "too few steps": (["--steps", "9"], "steps: got 9; must be at least 10"),
    "another table": (["--out", "rates.txt"], "out: got rates.txt; must end in .csv or .jsonl"),
    "another picture": (["--picture", "rates.pdf"], "picture: got rates.pdf; must end in"),
    "no folder": (["--out", "no/rates.csv"], "out: no/rates.csv: there is no folder no"),
    "no recipe": (["cifar"], 'recipe: got "cifar"'),
    "no data": (["--data", "images:no"], "no such folder"),
    "a batch of nothing": (["--batch", "0"], "batch: got 0; must be a multiple of leaves"),
    "a rate beyond float32": (["--to", "1e31"], "from, to: got 1e-05 and 1e+31; must be rates from"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_mistake_is_one_line_and_code_2_before_anything_is_computed(folder, capsys, case):
    pytest.importorskip("matplotlib", reason="the extra plot is not installed")
    arguments, words = BAD[case]
    code, out, err = asked(capsys, *arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: ")
    assert words in err
    assert list(folder.iterdir()) == []


@pytest.mark.usefixtures("folder")
def test_a_table_that_cannot_be_written_does_not_take_the_suggestion_away(capsys, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("engine.rates.write_whole", full)
    code, out, err = asked(capsys, "--threads", "1", "--steps", "10", "--out", "rates.csv")
    assert code == 2
    assert "rate" in out
    assert err.splitlines()[-1] == "error: out: rates.csv: cannot be written: No space left on device"


def test_an_option_for_what_does_not_count_is_refused(capsys):
    for option in ("--lr", "--epochs", "--checkpoint-every", "--schedule"):
        with pytest.raises(SystemExit) as end:
            main([option, "1"])
        assert end.value.code == 2
        assert f"unrecognized arguments: {option}" in capsys.readouterr().err


def test_an_interrupted_test_writes_what_it_has(folder):
    command = [sys.executable, "-m", "engine.rates", "--threads", "1", "--steps", "1000000", "--out"]
    with subprocess.Popen(
        [*command, str(folder / "rates.csv")], cwd=REPOSITORY, stderr=subprocess.PIPE, text=True
    ) as process:
        said = [next(process.stderr)]  # of the run: from here on a wish to end waits for the step
        process.send_signal(signal.SIGTERM)
        said += process.stderr
    assert process.returncode == 130
    assert said[-1] == "interrupted\n"
    assert (folder / "rates.csv").read_text().startswith("step,rate,loss,smoothed_loss\n1,1e-05,")


def test_a_damaged_image_ends_it_in_one_line(folder, photos, capsys):
    for name in ("red", "green"):
        (folder / "data" / name).mkdir(parents=True)
        for image in (photos / "train" / name).iterdir():
            (folder / "data" / name / image.name).write_bytes(image.read_bytes())
    next((folder / "data/red").iterdir()).write_bytes(b"no image")
    options = ("cifar10", "--data", f"images:{folder / 'data'}", "--batch", "16", "--threads", "1")
    code, out, err = asked(capsys, *options)
    assert (code, out) == (2, "")
    last = err.splitlines()[-1]
    assert last.startswith("error: ")
    assert "cannot be decoded" in last
    assert "saved" not in last or "nothing to save" in last
