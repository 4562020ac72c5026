"""Training from Python."""

import json
import subprocess
import sys
import threading

import lockstep
import numpy as np
import pytest

from tests.mpi.launch import mpirun

SHORT = {"steps": 4, "threads": 1}


class Seen(lockstep.Callback):
    def __init__(self, stop_at=10**9):
        self.steps, self.epochs, self.checkpoints, self.stop_at = [], [], [], stop_at

    def on_step(self, run, record):
        self.steps.append(record["step"])
        if record["step"] == self.stop_at:
            run.stop()

    def on_epoch(self, run, record):
        self.epochs.append(record["step"])

    def on_checkpoint(self, run, folder):
        self.checkpoints.append(folder)


def test_a_run_holds_results_metrics_table_checkpoint_and_weights(tmp_path):
    seen = Seen()
    run = lockstep.train("digits", callbacks=[seen], out=str(tmp_path / "run"), **SHORT)
    assert run.folder == tmp_path / "run"
    assert (
        run.results["weights_sha256"] == json.loads((run.folder / "run.json").read_text())["weights_sha256"]
    )
    assert [record["step"] for record in run.metrics()] == seen.steps == [1, 2, 3, 4]
    assert [record["step"] for record in run.metrics("epoch")] == seen.epochs == [4]
    assert seen.checkpoints == [run.checkpoint] == [tmp_path / "run/checkpoints/step-00000004"]
    assert run.weights["conv1.weight"].shape == (32, 1, 3, 3)
    assert run.table is not None
    assert run.table.steps == 2


def test_a_callback_stops_the_run_with_a_checkpoint_and_it_goes_on_to_the_same_weights(tmp_path):
    whole = lockstep.train("digits", out=str(tmp_path / "whole"), **SHORT)
    stopped = lockstep.train("digits", callbacks=[Seen(stop_at=1)], out=str(tmp_path / "part"), **SHORT)
    assert stopped.results["interrupted"]
    assert stopped.results["steps"] == 2
    rest = lockstep.train(resume=stopped.folder)
    assert rest.results["weights_sha256"] == whole.results["weights_sha256"]
    assert all(np.array_equal(rest.weights[name], weight) for name, weight in whole.weights.items())


def test_a_recipe_made_in_python_is_the_one_of_the_command(tmp_path):
    recipe = lockstep.Recipe(model="digits", data="digits", threads=1, steps=4, out=str(tmp_path / "one"))
    run = lockstep.train(recipe, changes={"schedule.rate": 0.5})
    assert lockstep.read_recipe(str(run.folder / "recipe.toml")).schedule.rate == 0.5


def test_mistakes_are_errors_of_one_line(tmp_path):
    with pytest.raises(lockstep.UserError, match=r'unknown field "bacth" \(did you mean "batch"\?\)'):
        lockstep.train("digits", bacth=3)
    with pytest.raises(lockstep.UserError, match=r'"schedule.rat" \(did you mean "schedule.rate"\?\)'):
        lockstep.train("digits", changes={"schedule.rat": 0.1})
    with pytest.raises(lockstep.UserError, match=r'unknown field "batch\.x"'):
        lockstep.train("digits", changes={"batch.x": 1})
    with pytest.raises(lockstep.UserError, match=r"optimizer: got \{'momentum': 0.5\}; must be of type"):
        lockstep.train("digits", optimizer={"momentum": 0.5}, **SHORT)
    with pytest.raises(lockstep.UserError, match="batch: got 7; must be a multiple of leaves = 16"):
        lockstep.train("digits", batch=7, out=str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_what_fails_in_the_middle_is_raised_where_the_program_goes_on(tmp_path):
    file = tmp_path / "bad.py"
    file.write_text(
        "import lockstep\nimport numpy as np\n\n"
        "class Bad(lockstep.ArrayDataset):\n"
        "    def read(self, index, x):\n        raise lockstep.UserError('sample 3: cannot be read')\n\n"
        "def data():\n"
        "    return lockstep.DataSource(Bad(np.zeros((64, 1, 8, 8)), np.arange(64) % 10), None)\n"
    )
    with pytest.raises(lockstep.UserError, match="sample 3: cannot be read"):
        lockstep.train("digits", data=f"{file}:data", out=str(tmp_path / "run"), **SHORT)


def test_an_error_leaves_no_thread_behind(tmp_path):
    class Fails(lockstep.Callback):
        def on_step(self, run, record):
            raise KeyError("a bug of the user's")

    before = set(threading.enumerate())
    with pytest.raises(KeyError, match="a bug"):
        lockstep.train("digits", callbacks=[Fails()], out=str(tmp_path / "run"), **SHORT)
    assert set(threading.enumerate()) <= before


def test_all_ranks_return_the_run(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import lockstep\n"
        f"run = lockstep.train('digits', steps=4, threads=1, out={str(tmp_path / 'two')!r})\n"
        "print(run.results['weights_sha256'], len(run.weights), run.folder.name, flush=True)\n"
    )
    lines = mpirun(2, str(program), timeout=120).stdout.splitlines()
    one = lockstep.train("digits", out=str(tmp_path / "one"), **SHORT)
    assert lines == [f"{one.results['weights_sha256']} 10 two"] * 2


def test_an_error_in_a_callback_of_one_rank_ends_all_of_them(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        "import lockstep\n\n"
        "class Failing(lockstep.Callback):\n"
        "    def on_step(self, run, record):\n"
        "        if run.rank == 1 and record['step'] == 2:\n            raise KeyError('mine')\n\n"
        "try:\n"
        f"    lockstep.train(out={str(tmp_path / 'run')!r}, callbacks=[Failing()], steps=4, threads=1)\n"
        "except KeyError:\n    pass\n"
    )
    done = mpirun(2, str(program), timeout=60)
    assert done.returncode == 1
    assert "rank 1: KeyError: 'mine'" in done.stderr


def test_importing_the_interface_compiles_and_starts_nothing():
    code = (
        "import lockstep, sys; print([name for name in ('numba', 'mpi4py', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_every_name_of_the_interface_is_there():
    assert all(getattr(lockstep, name) is not None for name in lockstep.__all__)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = lockstep.trian


def test_a_network_of_which_layers_were_frozen_is_loaded(tmp_path):
    first = lockstep.train("digits", out=str(tmp_path / "first"), **SHORT)
    run = lockstep.train(
        "digits", out=tmp_path / "run", init=first.folder, freeze=["conv*"], keep_best=True, **SHORT
    )
    assert np.array_equal(run.weights["conv1.weight"], first.weights["conv1.weight"])
    x = np.random.default_rng(1).standard_normal((8, 1, 8, 8), dtype=np.float32)
    logits = lockstep.load(run.checkpoint, threads=1)(x)
    assert np.isfinite(logits).all()
    assert not np.array_equal(logits, lockstep.load(first.folder, threads=1)(x))


def test_a_rate_is_overridden_on_the_way_only(tmp_path):
    run = lockstep.train("digits", out=str(tmp_path / "run"), changes={"schedule.kind": "constant"}, **SHORT)
    with pytest.raises(lockstep.UserError, match=r"^resume: schedule\.rate .* say --override-rate 0\.001"):
        lockstep.train(resume=run.folder, steps=6, changes={"schedule.rate": 0.001})
    rest = lockstep.train(resume=run.folder, steps=6, override_rate=0.001)
    assert [change["step"] for change in rest.results["history"]] == [4]
    with pytest.raises(lockstep.UserError, match=r"^override_rate: got 0\.1 without a run that goes on"):
        lockstep.train("digits", override_rate=0.1)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"callbacks": None}, r"callbacks: got None; must be a list of Callback objects"),
        ({"callbacks": [3]}, r"callbacks: got \[3\]; must be"),
        ({"callbacks": [Seen]}, r"callbacks: got \[<class .*Seen'>\]; must be"),
        ({"data": None}, r"data: got None; must be a text"),
        ({"recipe": lockstep.Recipe(model=3)}, r"model: got 3; must be a text"),
        ({"recipe": None}, r"recipe: got None; must be a path"),
        ({"resume": 3}, r"resume: got 3; must be a path"),
        ({"override_rate": "x"}, r"override_rate: got 'x'; must be a number"),
        ({"changes": 3}, r"changes: got 3; must be fields by name"),
        ({"changes": {3: 4}}, r"changes: got \{3: 4\}; must be"),
    ],
)
def test_arguments_of_another_type_are_one_line(tmp_path, given, said):
    with pytest.raises(lockstep.UserError, match=f"^{said}"):
        lockstep.train(**{"out": str(tmp_path / "run"), **SHORT, **given})
    assert not (tmp_path / "run").exists()


def test_a_recipe_is_read_by_a_text():
    with pytest.raises(lockstep.UserError, match=r"^recipe: got 3; must be a text$"):
        lockstep.read_recipe(3)


def test_an_option_by_its_name_in_the_command_is_told_the_fields(tmp_path):
    with pytest.raises(
        lockstep.UserError, match=r'^recipe: "lr" is the option of the field schedule\.rate: changes='
    ):
        lockstep.train("digits", lr=0.1, out=str(tmp_path / "run"))
