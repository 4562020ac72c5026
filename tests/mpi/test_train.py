"""The train command as users run it: under mpirun, on several numbers of ranks, with and without mistakes."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.profile.trace_file import read_trace
from engine.run.finding import find_checkpoint
from tests.mpi.launch import REPOSITORY, mpirun, run

STEPS = ("--steps", "10", "--checkpoint-steps", "4")


def train(ranks, *arguments, timeout=120.0):
    return mpirun(ranks, "-m", "engine.train", *map(str, arguments), timeout=timeout)


def trained(out: Path, ranks: int, *arguments):
    done = train(ranks, *arguments, "--out", out)
    assert done.returncode == 0, done.stderr
    return json.loads((out / "run.json").read_text())


NORMED = """
from lockstep import BatchNorm, Conv2d, Flatten, GraphBuilder, Linear, ReLU


def net():
    net = GraphBuilder((1, 8, 8))
    net.add("conv1", Conv2d(20, 3, padding=1))
    net.add("norm1", BatchNorm())
    net.add("relu1", ReLU())
    net.add("flatten", Flatten())
    net.add("fc2", Linear(24))
    net.add("norm2", BatchNorm(groups=2))
    net.add("fc3", Linear(10, gain=1.0))
    return net.graph()
"""


def test_ranks_that_share_the_samples_of_a_norm_end_with_the_bits_of_one(tmp_path):
    (tmp_path / "normed.py").write_text(NORMED)
    options = ("--model", f"{tmp_path / 'normed.py'}:net", "--norm-groups", "1", *STEPS, "--threads", "1")
    one, three = (trained(tmp_path / f"{ranks}", ranks, *options) for ranks in (1, 3))
    for figure in ("weights_sha256", "state_sha256", "final_loss", "test_loss"):
        assert one[figure] == three[figure], figure


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """One rank, one thread, no overlap, not under mpirun."""
    out = tmp_path_factory.mktemp("reference") / "run"
    command = (
        sys.executable,
        "-m",
        "engine.train",
        *STEPS,
        "--threads",
        "1",
        "--overlap",
        "off",
        "--out",
        str(out),
    )
    done = run(*command, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads((out / "run.json").read_text())


@pytest.mark.parametrize(
    ("ranks", "options"),
    [
        (1, ["--threads", 2]),
        (2, []),
        (2, ["--overlap", "off"]),
        (2, ["--shared-memory", "off"]),
        (3, []),
        (4, ["--threads", 1]),
    ],
)
def test_the_weights_are_the_same_bits_on_any_number_of_ranks(tmp_path, reference, ranks, options):
    results = trained(tmp_path / "run", ranks, *STEPS, *options)
    assert results["ranks"] == ranks
    assert bool(results["environment"]["mpi"]) == (ranks > 1), "the MPI that was started is named"
    for name in ("weights_sha256", "final_loss", "test_accuracy", "test_loss"):
        assert results[name] == reference[name], name


@pytest.mark.parametrize(("ranks", "plan"), [(2, "fc4=2"), (4, "fc4=4")])
def test_a_plan_changes_no_bit(tmp_path, reference, ranks, plan):
    results = trained(tmp_path / "run", ranks, *STEPS, "--plan", plan, "--threads", 1)
    for name in ("weights_sha256", "final_loss", "test_accuracy", "test_loss", "parameters"):
        assert results[name] == reference[name], name
    assert results["plan"] == plan


def test_a_run_leaves_files_that_other_tools_read(tmp_path):
    results = trained(tmp_path / "run", 2, "--epochs", 1)
    wanted = {
        "model", "data", "ranks", "threads", "batch", "leaves", "steps", "epochs", "parameters",
        "samples_per_second", "final_loss", "test_accuracy", "weights_sha256", "step_seconds_median",
        "exposed_communication_seconds_median", "seconds_total",
    }  # fmt: skip
    assert wanted <= set(results)
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["kind"] == "step"]
    assert [line["step"] for line in steps] == list(range(1, results["steps"] + 1))
    assert [line["test_accuracy"] for line in lines if line["kind"] == "epoch"] == [results["test_accuracy"]]
    again = trained(tmp_path / "again", 1, tmp_path / "run/recipe.toml")
    assert again["weights_sha256"] == results["weights_sha256"]


def test_a_killed_run_resumes_on_another_number_of_ranks_with_the_same_bits(tmp_path):
    out, steps = tmp_path / "run", ("--steps", "150", "--checkpoint-steps", "3")
    whole = trained(tmp_path / "whole", 1, "--steps", 150)
    process = subprocess.Popen(
        [sys.executable, "-m", "engine.train", *steps, "--out", str(out)],
        cwd=REPOSITORY,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    while process.poll() is None and not list(out.glob("checkpoints/step-*[0-9]")):
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert int(find_checkpoint(out).name.removeprefix("step-")) < 150
    results = trained(out, 3, "--resume", out)
    assert results["weights_sha256"] == whole["weights_sha256"]
    assert results["final_loss"] == whole["final_loss"]
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if line["kind"] == "step"] == list(range(1, 151))


def interrupted(out: Path, *arguments) -> str:
    """Press Ctrl-C after a step of a run on one rank; return what the run said."""
    process = subprocess.Popen(
        [sys.executable, "-m", "engine.train", "--steps", "100000", "--out", out, *arguments],
        cwd=REPOSITORY,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    metrics = out / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.read_text()):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    return errors


def test_an_interrupted_run_saves_and_says_how_to_go_on(tmp_path):
    out = tmp_path / "run"
    errors = interrupted(out)
    assert "interrupted; go on with --resume" in errors
    assert find_checkpoint(out)
    assert json.loads((out / "run.json").read_text())["interrupted"] is True


@pytest.mark.parametrize("overlap", ["on", "off"])
def test_a_trace_changes_no_bit_and_explains_what_the_run_said(tmp_path, reference, overlap):
    out, trace = tmp_path / "run", tmp_path / "trace.json"
    done = train(2, *STEPS, "--overlap", overlap, "--out", out, "--trace", trace)
    assert done.returncode == 0, done.stderr
    results = json.loads((out / "run.json").read_text())
    assert results["weights_sha256"] == reference["weights_sha256"]
    assert "where the time went: " in done.stderr
    tables = []
    for path in (out, trace):
        explained = run(sys.executable, "-m", "engine.explain", str(path), "--json")
        assert explained.returncode == 0, explained.stderr
        tables.append(json.loads(explained.stdout))
    assert tables[0] == results["where_the_time_went"]
    layers = [table.pop("seconds_by_layer") for table in tables]
    for first, other in (tables, *zip(*(each.values() for each in layers), strict=True)):
        for name, value in first.items():  # clocks and rounding take some millionths, or microseconds
            assert other[name] == pytest.approx(value, rel=1e-3, abs=2e-6), name
    assert layers[0].keys() == layers[1].keys()
    assert tables[0]["communication_alone_seconds"] > 0
    assert 0 <= tables[0]["hidden_share"] <= 1


def test_an_interrupted_run_writes_its_trace(tmp_path):
    trace = tmp_path / "trace.json"
    errors = interrupted(tmp_path / "run", "--trace", trace)
    explained = run(sys.executable, "-m", "engine.explain", str(trace))
    assert explained.returncode == 0, explained.stderr
    counted = re.findall(r"\(mean of \d+ steps?\)", errors)
    assert re.findall(r"\(mean of \d+ steps?\)", explained.stdout) == counted != []


@pytest.mark.parametrize("overlap", ["on", "off"])
def test_sigterm_to_one_rank_stops_all_with_a_checkpoint_and_a_trace(tmp_path, overlap):
    out, trace = tmp_path / "run", tmp_path / "trace.json"
    worker = ("-m", "tests.mpi.workers.terminated", str(out), "--steps", "100000", "--threads", "1")
    done = mpirun(2, *worker, "--overlap", overlap, "--trace", str(trace), timeout=60)
    assert "interrupted; go on with --resume" in done.stderr
    assert "Traceback" not in done.stderr
    steps = int(find_checkpoint(out).name.removeprefix("step-"))
    assert json.loads((out / "run.json").read_text())["steps"] == steps
    for spans in read_trace(trace).ranks:
        seen = [span.name for span in spans if span.name.startswith("step ")]
        assert seen == [f"step {number}" for number in range(1, steps + 1)]


def broken_images(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for label in ("cat", "dog"):
            (folder / split / label).mkdir(parents=True)
            for index in range(20):
                pixels = rng.integers(0, 256, (32, 32, 3), np.uint8)
                Image.fromarray(pixels).save(folder / split / label / f"{index}.jpg")
    victim = folder / "train/dog/7.jpg"
    victim.write_bytes(victim.read_bytes()[:300])
    return folder


MISTAKES = {
    "a missing data folder": (["cifar10", "--data", "images:{tmp}/none"], r"none"),
    "a truncated JPEG": (
        [
            "cifar10",
            "--data",
            "images:{images}",
            "--batch",
            "16",
            "--epochs",
            "2",
            "--out",
            "{tmp}/run{ranks}",
        ],
        r"dog/7\.jpg",
    ),
    "an unknown recipe": (["digitz"], r'recipe: got "digitz" \(did you mean "digits"\?\)'),
    "a typo in the TOML": (["{tmp}/typo.toml"], r'unknown field "bacth" \(did you mean "batch"\?\)'),
    "a batch that does not divide": (["--batch", "60"], r"batch: got 60; must be a multiple of leaves = 16"),
    "a plan for a layer that is not there": (
        ["--plan", "fc9=2"],
        r"plan: no node fc9; this model can split fc4",
    ),
    "a plan for more ranks": (["--plan", "fc4=4"], r"plan: fc4=4: 4 parts need at least 4 ranks, got [12]"),
    "a plan in no known form": (["--plan", "magic"], r'plan: got "magic"'),
    "a data set that does not fit": (["vgg_a", "--data", "digits"], r"the model wants \(3, 224, 224\)"),
    "a minibatch larger than the data": (
        ["--batch", "2048"],
        r"minibatch: got 2048 with 1437 training samples",
    ),
    "a run to resume that is none": (["--resume", "{tmp}"], r"resume: .* holds no checkpoint"),
    "a trace in a missing folder": (
        ["--out", "{tmp}/traced{ranks}", "--trace", "{tmp}/none/trace.json"],
        r"trace: .*none/trace\.json: there is no folder .*none",
    ),
    "an output folder that is a file": (
        ["--out", "{tmp}/typo.toml"],
        r"out: .*typo\.toml: cannot be written",
    ),
}


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    tmp = tmp_path_factory.mktemp("mistakes")
    (tmp / "typo.toml").write_text("bacth = 3\n")
    return {"tmp": tmp, "images": broken_images(tmp / "images")}


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_clear_line_and_exit_code_2(places, mistake, ranks):
    arguments, message = MISTAKES[mistake]
    done = train(ranks, *(argument.format(**places, ranks=ranks) for argument in arguments), timeout=60)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, done.stderr
    assert re.search(message, errors[0])


def test_more_ranks_than_leaves_is_refused():
    done = train(3, "--leaves", "2", "--batch", "64")
    assert done.returncode == 2
    assert "error: 3 ranks but only 2 leaves: use at most 2 ranks, or more leaves" in done.stderr


def test_a_recipe_that_changes_the_bits_cannot_be_resumed(tmp_path):
    trained(tmp_path / "run", 1, "--steps", 2)
    for changes, message in (
        (("--seed", 5), "error: resume: seed was 1 in the checkpoint's run and is 5 now"),
        ((), "error: resume: the run is at step 2 of 2: give more --epochs or --steps"),
    ):
        done = run(
            sys.executable, "-m", "engine.train", "--resume", str(tmp_path / "run"), *map(str, changes)
        )
        assert done.returncode == 2
        assert message in done.stderr
        assert "Traceback" not in done.stderr


def test_help_works_without_mpi_and_numba(tmp_path):
    for module in ("mpi4py", "numba"):
        (tmp_path / f"{module}.py").write_text(f"raise SystemExit('{module} was imported')")
    environment = {"PYTHONPATH": str(tmp_path)}
    done = run(sys.executable, "-m", "engine.train", "--help", env=environment)
    assert done.returncode == 0, done.stderr
    assert "mpirun -n 2" in done.stdout


@pytest.mark.parametrize("options", [("--bacth", "3"), ("--thread", "1"), ("--steps", "many")])
def test_a_mistaken_option_is_one_line(options):
    done = run(sys.executable, "-m", "engine.train", *options)
    assert done.returncode == 2
    assert re.fullmatch(r"error: .*; --help lists all options\n", done.stderr)


def test_a_mistaken_option_is_said_by_rank_0_only():
    done = train(2, "--bacth=3")
    assert done.returncode == 2
    said = 'error: unrecognized arguments: --bacth=3 (did you mean "--batch"?); --help'
    assert done.stderr.count(said) == 1


SLIPS = {
    "no such home for the folder": (["--out", "~nosuchuser/x"], r"^error: out: .* no such home folder"),
    "no such home for the run": (["--resume", "~nosuchuser/x"], r"^error: resume: .* no such home folder"),
    "a recipe's name too long": (["x" * 300], r"^error: recipe: x+: File name too long"),
    "a run's name too long": (["--resume", "x" * 300], r"^error: resume: x+: File name too long"),
    "too many steps": (["--steps", "9" * 20], r"^error: steps: got 9+; must be at least 0 and at most"),
    "a folder's name that is no text": (
        ["--out", os.fsdecode(b"q\xffz")],
        r"^error: out: .* no name of a file",
    ),
    "too many threads": (["--threads", "1000000"], r"^error: threads: got 1000000; .* at most 1024"),
    "a rate beyond float32": (["--lr", "1e39"], r"^error: schedule\.rate: got 1e\+39; .* below 1e\+30"),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_one_clear_line_without_a_traceback(slip):
    options, message = SLIPS[slip]
    done = run(sys.executable, "-m", "engine.train", *options)
    assert done.returncode == 2
    assert re.fullmatch(f"{message}.*\n", done.stderr), done.stderr


def test_a_reader_that_closes_its_end_spoils_nothing(tmp_path):
    command = f"{sys.executable} -m engine.train --steps 1 --out '{tmp_path}/two\nlines' | true"
    done = run("bash", "-o", "pipefail", "-c", command)
    assert done.returncode == 0, done.stderr
    assert "BrokenPipe" not in done.stderr
    assert find_checkpoint(tmp_path / "two\nlines")


@pytest.mark.parametrize("delay_s", [0.03, 0.15, 0.4])
def test_ctrl_c_at_any_time_leaves_no_traceback(tmp_path, delay_s):
    code = "import os, signal, sys, threading, time; from engine.train import main; "
    code += f"threading.Timer({delay_s}, os.kill, (os.getpid(), signal.SIGINT)).start(); "
    code += f"sys.exit(main(['--epochs', '4000', '--out', {str(tmp_path / 'run')!r}]))"
    done = run(sys.executable, "-c", code)
    assert done.returncode == 130
    assert "Traceback" not in done.stderr
    assert "interrupted" in done.stderr


def test_the_packages_come_from_this_project():
    code = "import comm, engine, layers; print(comm.__file__, engine.__file__, layers.__file__)"
    done = run(sys.executable, "-c", code)
    assert all(Path(file).is_relative_to(REPOSITORY) for file in done.stdout.split())
    assert os.sep in done.stdout
