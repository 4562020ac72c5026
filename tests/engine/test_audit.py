"""The command that computes a step of a run again."""

import json
import shutil

import lockstep
import pytest

from comm.threads import run_ranks
from engine.audit import main
from engine.run import weight_checks
from engine.run.recorded import chosen, recorded_hashes
from engine.run.replay import replay
from engine.run.replay_start import start_before


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return the folder of a run with hashes of its steps."""
    folder = tmp_path_factory.mktemp("audited") / "run"
    lockstep.train(
        "digits",
        steps=24,
        threads=1,
        out=str(folder),
        checkpoint_steps=10,
        changes={"hash_every": 7, "checkpoint_every": 0, "keep_checkpoints": 9},
    )
    return folder


def asked(capsys, *arguments):
    code = main(list(map(str, arguments)))
    out, err = capsys.readouterr()
    return code, out, err


def times(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.parametrize(("step", "begun_at"), [(7, 0), (10, 0), (14, 10), (20, 10), (21, 20), (24, 20)])
def test_a_step_is_computed_again_to_the_bit(run, capsys, step, begun_at):
    before = times(run)
    code, out, _ = asked(capsys, run, "--step", step, "--json", "--threads", 1)
    assert times(run) == before
    found = json.loads(out)
    assert (code, found["same"], found["step"], found["begun_at"]) == (0, True, step, begun_at)
    assert found["recorded"]["weights_sha256"] == found["here"]["weights_sha256"]


def test_the_last_hash_is_taken_unless_another_is_asked_for(run, capsys):
    code, out, err = asked(capsys, run, "--threads", 1)
    assert code == 0
    assert out.splitlines()[0] == "step 24: computed again from the checkpoint of step 20, 4 steps"
    assert out.splitlines()[-1] == "the same"
    assert "steps 20 to 24" in err


def test_another_hash_is_said_and_the_code_is_1(run, tmp_path, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(run, folder)
    metrics = folder / "metrics.jsonl"
    (line,) = [each for each in metrics.read_text().splitlines() if '"step": 21,' in each]
    right = json.loads(line)["weights_sha256"]
    metrics.write_text(metrics.read_text().replace(right, "0" * 64))
    code, out, _ = asked(capsys, folder, "--step", 21, "--threads", 1)
    assert code == 1
    assert "0" * 64 in out
    assert right in out
    assert out.splitlines()[-1] == "not the same"


def test_ranks_replay_alike(run):
    def work(world):
        recorded = chosen(recorded_hashes(run), 14)
        return replay(world, lambda: (start_before(run, 14, {"threads": 1}), recorded))

    for found in run_ranks(2, work):
        assert found.is_same
        assert found.begun_at == 10


def test_where_copies_differ_the_checkpoint_before_is_named(run, monkeypatch):
    named = []
    monkeypatch.setattr(weight_checks, "check_copies", lambda *given: named.append((given[2], given[3]())))
    recorded = chosen(recorded_hashes(run), 14)

    def work(world):
        return replay(world, lambda: (start_before(run, 14, {"threads": 1, "verify_every": 3}), recorded))

    run_ranks(2, work)
    assert named == [(12, 10)] * 2


def test_mistakes_are_one_line_and_code_2(run, tmp_path, capsys):
    for arguments, said in (
        ((run, "--step", 8), "error: step: got 8, of which the run has written no hash; it has of 7, 10"),
        ((tmp_path,), f"error: {tmp_path}: is no run's folder: it holds no recipe.toml"),
        ((tmp_path / "nothing",), f"error: {tmp_path / 'nothing'}: is no run's folder"),
    ):
        code, out, err = asked(capsys, *arguments)
        assert (code, out) == (2, "")
        (line,) = err.splitlines()
        assert line.startswith(said)


def test_a_run_without_hashes_says_how_to_get_them(run, tmp_path, capsys):
    (tmp_path / "recipe.toml").write_text((run / "recipe.toml").read_text())
    (tmp_path / "metrics.jsonl").write_text('{"kind": "step", "step": 1, "loss": 2.0}\n{"kind": "st')
    code, _, err = asked(capsys, tmp_path)
    assert code == 2
    assert "--hash-every N" in err


@pytest.fixture(scope="module")
def changed(run, tmp_path_factory):
    """Return the folder of a run that went on from step 10 with another rate, in a plan for two ranks."""
    folder = tmp_path_factory.mktemp("changed") / "run"
    shutil.copytree(run, folder)
    checkpoint = folder / "checkpoints" / "step-00000010"
    lockstep.train(resume=str(checkpoint), override_rate=0.2, threads=1)
    recipe = folder / "recipe.toml"
    recipe.write_text(recipe.read_text().replace('plan = "data"', 'plan = "fc4=2"'))
    return folder


@pytest.mark.parametrize("is_killed", [False, True])
@pytest.mark.parametrize(("step", "begun_at"), [(7, 0), (10, 0), (14, 10), (21, 20)])
def test_a_step_has_the_rate_that_the_run_had_then(changed, tmp_path, capsys, step, begun_at, is_killed):
    folder = changed
    if is_killed:  # before it wrote a checkpoint with the new rate
        folder = tmp_path / "run"
        shutil.copytree(changed, folder)
        (folder / "run.json").unlink()
        for checkpoint in ("step-00000020", "step-00000024"):
            shutil.rmtree(folder / "checkpoints" / checkpoint, ignore_errors=True)
        begun_at = min(begun_at, 10)
    code, out, err = asked(capsys, folder, "--step", step, "--json", "--threads", 1)
    assert code == 0, err
    assert json.loads(out)["begun_at"] == begun_at


@pytest.mark.parametrize("gone", ["checkpoints/step-00000010", "checkpoints"])
def test_no_step_is_computed_beyond_a_change_of_the_rate(changed, tmp_path, capsys, gone):
    folder = tmp_path / "run"
    shutil.copytree(changed, folder)
    shutil.rmtree(folder / gone)
    assert asked(capsys, folder, "--step", 7, "--threads", 1)[0] == 0
    code, out, err = asked(capsys, folder, "--step", 14, "--threads", 1)
    assert (code, out) == (2, "")
    assert err == (
        "error: step: got 14; the rate was changed after step 10, of which no checkpoint is left: "
        "must be up to 10\n"
    )


@pytest.mark.parametrize(
    ("name", "damage"),
    [("state.json", b"{"), ("state.json", None), ("optimizer.safetensors", b"damaged")],
)
def test_a_damaged_checkpoint_is_passed_over(run, tmp_path, capsys, name, damage):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    file = folder / "checkpoints" / "step-00000020" / name
    file.unlink() if damage is None else file.write_bytes(damage)
    code, out, err = asked(capsys, folder, "--step", 21, "--json", "--threads", 1)
    assert code == 0, err
    assert json.loads(out)["begun_at"] == 10


def test_paths_of_the_run_begin_where_it_was_started(run, tmp_path, monkeypatch, capsys):
    here, elsewhere = tmp_path / "here", tmp_path / "elsewhere"
    shutil.copytree(run, here / "given")
    elsewhere.mkdir()
    monkeypatch.chdir(here)
    (here / "own.py").write_text(
        "from engine.models.digits import digits\n\ndef net():\n    return digits()\n"
    )
    changes = {"hash_every": 1, "init": "given"}
    lockstep.train("digits", model="own.py:net", steps=3, threads=1, out="run", changes=changes)
    monkeypatch.chdir(elsewhere)
    code, _, err = asked(capsys, here / "run", "--step", 2, "--threads", 1)
    assert code == 0, err


def test_an_end_that_the_recipe_has_now_does_not_end_the_replay(run, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    shutil.rmtree(folder / "checkpoints")
    recipe = folder / "recipe.toml"
    recipe.write_text(
        "evaluate_every = 1\nstop_after = 1\nbatch = 512\nleaves = 16\n" + "steps = 40\n"
        'model = "digits"\ndata = "digits"\n[schedule]\nrate = 0.0\n'
    )
    hashes = folder / "metrics.jsonl"
    hashes.write_text(json.dumps({"step": 30, "weights_sha256": "0" * 64}) + "\n")
    code, out, _ = asked(capsys, folder, "--step", 30, "--threads", 1)
    assert (code, out.splitlines()[-1]) == (1, "not the same")


def test_a_step_behind_the_end_of_the_recipe_is_a_mistake(run, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    with (folder / "metrics.jsonl").open("a") as metrics:
        metrics.write(json.dumps({"step": 25, "weights_sha256": "0" * 64}) + "\n")
        metrics.write(json.dumps({"step": 0, "weights_sha256": "0" * 64}) + "\n")
    shutil.rmtree(folder / "checkpoints")
    code, out, err = asked(capsys, folder, "--threads", 1)
    assert (code, out) == (2, "")
    assert err.splitlines()[-1] == "error: step: got 25; the run's recipe ends with step 24"
    assert asked(capsys, folder, "--step", 0, "--threads", 1)[0] == 2
