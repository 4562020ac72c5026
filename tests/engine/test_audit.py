"""The command that computes a step of a run again."""

import json
import shutil

import lockstep
import pytest

from comm.threads import run_ranks
from engine.audit import main
from engine.run import weight_checks
from engine.run.replay import chosen, recorded_hashes, replay
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
def overridden(tmp_path_factory):
    """Return the folder of a run whose rate was overridden after step 6, in a plan for two ranks."""
    folder = tmp_path_factory.mktemp("overridden") / "run"
    settings = {"hash_every": 2, "checkpoint_every": 0, "keep_checkpoints": 9, "schedule.kind": "constant"}
    lockstep.train("digits", steps=6, threads=1, out=str(folder), checkpoint_steps=3, changes=settings)
    lockstep.train(resume=str(folder), steps=12, override_rate=0.02)
    recipe = folder / "recipe.toml"
    recipe.write_text(recipe.read_text().replace('plan = "data"', 'plan = "fc4=2"'))
    return folder


@pytest.mark.parametrize(("step", "begun_at"), [(2, 0), (4, 3), (6, 3), (8, 6), (10, 9)])
def test_a_step_has_the_rate_that_it_was_made_with(overridden, capsys, step, begun_at):
    code, out, err = asked(capsys, overridden, "--step", step, "--json", "--threads", 1)
    assert code == 0, err
    assert json.loads(out)["begun_at"] == begun_at


def test_a_damaged_checkpoint_is_passed_over(overridden, tmp_path, capsys):
    shutil.copytree(overridden, tmp_path / "run")
    (tmp_path / "run/checkpoints/step-00000009/optimizer.safetensors").write_bytes(b"damaged")
    code, out, err = asked(capsys, tmp_path / "run", "--step", 10, "--json", "--threads", 1)
    assert code == 0, err
    assert json.loads(out)["begun_at"] == 6


def test_no_step_is_computed_beyond_a_change_of_the_rate(overridden, tmp_path, capsys):
    shutil.copytree(overridden, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/checkpoints/step-00000006")
    code, _, err = asked(capsys, tmp_path / "run", "--step", 8, "--threads", 1)
    assert code == 2
    assert err.splitlines()[-1] == (
        "error: step: got 8; the rate was changed after step 6, of which no checkpoint is left: "
        "must be up to 6"
    )
