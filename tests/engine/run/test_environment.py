"""What a run ran on, and what it has warned of, are kept with its results."""

import json
import platform

import numpy as np

from comm.threads import run_ranks
from engine.host.affinity import find_cores
from engine.run import environment as module
from engine.run.environment import environment
from engine.run.launch import run
from engine.run.start import new_run

CHANGES = {"epochs": 0, "steps": 2, "checkpoint_every": 0}


def test_all_ranks_say_the_same():
    first, second = run_ranks(2, lambda world: environment(world, find_cores(world)))
    assert first == second
    assert (first["machines"], first["hosts"], len(first["processors"])) == (1, 1, 1)
    assert first["python"] == platform.python_version()
    assert first["numpy"] == np.__version__
    assert first["cores"] >= 1
    assert first["mpi"] is None
    json.dumps(first, allow_nan=False)


def test_a_package_that_is_not_installed_has_no_version():
    assert module._version("no-package-of-this-name") is None


def test_warnings_are_kept_once_each(tmp_path, capsys):
    given = {**CHANGES, "threads": 64, "out": str(tmp_path)}
    found = run_ranks(2, lambda world: run(world, lambda: new_run("digits", given)))
    kept = json.loads((tmp_path / "run.json").read_text())["warnings"]
    assert kept == found[0]["warnings"] == found[1]["warnings"]
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert [f"warning: {line}" for line in kept] == said
    assert any("64 threads share" in line for line in kept)


def test_the_trace_the_samples_and_the_end_are_kept(tmp_path):
    given = {**CHANGES, "threads": 1, "out": str(tmp_path / "run"), "trace": str(tmp_path / "trace.json")}
    (found,) = run_ranks(1, lambda world: run(world, lambda: new_run("digits", given)))
    assert found["trace"] == str(tmp_path / "trace.json")
    assert (found["training_samples"], found["test_samples"]) == (1437, 360)
    assert found["ended"][:2] == "20"
    assert found["environment"]["simd"]
