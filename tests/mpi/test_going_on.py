"""Frozen layers, rates of their own, given weights and an early end, as users run them under mpirun."""

import json
from pathlib import Path

import pytest

from tests.mpi.launch import mpirun

OPTIONS = ("--freeze", "conv*", "--rate-factor", "fc5=0.5", "--stop-after", "1", "--keep-best", "test_loss")


def train(ranks: int, *arguments: object):
    return mpirun(ranks, "-m", "engine.train", *map(str, arguments), timeout=120.0)


def trained(out: Path, ranks: int, *arguments: object):
    done = train(ranks, *arguments, "--threads", 1, "--out", out)
    assert done.returncode == 0, done.stderr
    return json.loads((out / "run.json").read_text()), done.stderr


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    out = tmp_path_factory.mktemp("first") / "run"
    trained(out, 1, "--steps", 5, "--seed", 4)
    return out


@pytest.fixture(scope="module")
def reference(first, tmp_path_factory):
    out = tmp_path_factory.mktemp("reference") / "run"
    return trained(out, 1, "--epochs", 30, "--lr", 0.3, "--init", first, *OPTIONS)[0]


@pytest.mark.parametrize(("ranks", "plan"), [(2, "fc4=2"), (3, "data")])
def test_all_ranks_end_early_after_the_same_step_with_the_same_bits(tmp_path, first, reference, ranks, plan):
    more = ("--epochs", 30, "--lr", 0.3, "--init", first, "--plan", plan, *OPTIONS)
    results, said = trained(tmp_path / "run", ranks, *more)
    assert reference["stopped_early"]
    assert reference["steps"] < 30 * 22
    for name in ("steps", "stopped_early", "best", "weights_sha256", "init_sha256", "frozen", "test_loss"):
        assert results[name] == reference[name], name
    assert said.count("init: 10 tensors taken from") == 1
    assert "stopped early; results in" in said
    best = json.loads((tmp_path / "run/checkpoints/best.json").read_text())
    assert best == {"format": 1} | {name: reference["best"][name] for name in ("metric", "value", "step")}


MISTAKES = {
    "a pattern that fits nothing": (["--freeze", "conv9"], 'freeze: got "conv9", which fits no layer with'),
    "everything frozen": (["--freeze", "*"], "freeze: got *, which leaves no layer with weights to train"),
    "a factor of nothing": (["--rate-factor", "fc9=2"], 'schedule.rates: got "fc9", which fits no layer'),
    "no such weights": (["--init", "{tmp}/none.safetensors"], "none.safetensors: cannot be read: No such"),
    "no such run": (
        ["--init", "{tmp}"],
        "holds no checkpoint; give a run's folder or one of its checkpoints",
    ),
    "weights of another kind": (["--init", "{tmp}/x.onnx"], "its ending says no format; must be one of"),
    "a metric of no evaluation": (
        ["--keep-best", "acc"],
        'keep_best: got "acc"; must be one of off, test',
    ),
    "a rate of no earlier run": (
        ["--override-rate", "0.1"],
        "override_rate: got 0.1 without a run that",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path, mistake):
    options, message = MISTAKES[mistake]
    given = [each.format(tmp=tmp_path) for each in options]
    done = train(2, "--out", tmp_path / "run", "--threads", 1, *given)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert message in line
    assert not (tmp_path / "run").exists()


def test_a_rate_is_changed_on_the_way(tmp_path, first):
    out = tmp_path / "run"
    trained(out, 2, "--steps", 4, "--init", first, "--schedule", "constant")
    done = train(3, "--resume", out, "--steps", 8, "--override-rate", 0.001, "--threads", 1)
    assert done.returncode == 0, done.stderr
    (change,) = json.loads((out / "run.json").read_text())["history"]
    assert (change["step"], change["what"], change["to"]) == (4, "schedule.rate", 0.001)
