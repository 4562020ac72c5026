"""The recipe of a run that goes on: what may differ, what is said of the rest, where its files are."""

import json
import re

import lockstep
import pytest

from comm.threads import single_rank
from engine.config.errors import UserError
from engine.config.recipe import read_recipe
from engine.run import launch
from engine.run.checkpoint import read_state
from engine.run.finding import find_checkpoint
from engine.run.run_folder import RECIPE
from engine.run.start import no_new_rate, resumed_run
from tests.engine.run.test_launch import images, resumed, trained
from tests.engine.run.test_prepare import OWN


def edit(run, old, new):
    text = (run / RECIPE).read_text()
    assert old in text
    (run / RECIPE).write_text(text.replace(old, new))


def refusal(run, **changes):
    with pytest.raises(UserError) as refused:
        resumed(run, **changes)
    return str(refused.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"schedule.rate": 0.005}, "schedule.rate was 0.03 in the checkpoint's run and is 0.005 now"),
        ({"optimizer.nesterov": False}, "optimizer.nesterov was on in the checkpoint's run and is off now"),
        (
            {"schedule.milestones": (3.0,)},
            "schedule.milestones was [] in the checkpoint's run and is [3.0] now",
        ),
        ({"optimizer.kind": "lars"}, "optimizer.kind was sgd in the checkpoint's run and is lars now"),
        ({"ema": 0.9}, "ema was 0.0 in the checkpoint's run and is 0.9 now"),
        ({"conv": "direct"}, "conv was auto in the checkpoint's run and is direct now"),
        ({"model_arguments.classes": 9}, "model_arguments.classes was not given in the .* run and is 9 now"),
    ],
)
def test_a_refused_change_names_field_and_both_values_and_what_to_do(tmp_path, changes, said):
    trained(tmp_path, **{"schedule.rate": 0.03})
    rate = ", say --override-rate 0.005" if "schedule.rate" in changes else ""
    advice = f"; must be the same: go on without this change{rate}, or start a new run, without --resume"
    assert re.fullmatch(
        f"resume: {re.escape(said).replace(re.escape('.*'), '.*')}{advice}", refusal(tmp_path, **changes)
    )


def test_an_edited_recipe_is_used_where_it_may_differ(tmp_path):
    trained(tmp_path)
    edit(tmp_path, "steps = 2\n", "steps = 4\n")
    assert resumed(tmp_path)["steps"] == 4
    edit(tmp_path, "steps = 4\n", "steps = 7\n")
    assert resumed(tmp_path, steps=5)["steps"] == 5
    assert "\nsteps = 5\n" in (tmp_path / RECIPE).read_text()
    (tmp_path / RECIPE).unlink()
    assert resumed(tmp_path, steps=6)["steps"] == 6


def test_an_edited_recipe_is_refused_by_field_where_it_may_not_differ(tmp_path):
    trained(tmp_path)
    edit(tmp_path, "seed = 1\n", "seed = 2\n")
    said = refusal(tmp_path, steps=4)
    assert said.startswith(
        f"resume: {tmp_path}/recipe.toml: seed was 1 in the checkpoint's run and is 2 now; must"
    )
    assert said.endswith("change it back, or start a new run, without --resume")
    edit(tmp_path, "seed = 2\n", "sede = 2\n")
    assert f'{tmp_path}/recipe.toml: unknown field "sede" (did you mean "seed"?)' in refusal(
        tmp_path, steps=4
    )


@pytest.fixture
def started(tmp_path, monkeypatch):
    """Train in a folder, with data and model by relative paths, and go elsewhere."""
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path


def test_a_run_goes_on_from_another_folder_with_data_by_a_relative_path(started, monkeypatch):
    images(started / "here/data", 8)
    trained(started / "run", model="cifar10", data="images:data", batch=16)
    monkeypatch.chdir(started / "there")
    assert resumed(started / "run", steps=3)["data"] == f"images:{started}/here/data"
    assert resumed(started / "run", steps=4)["data"] == f"images:{started}/here/data"
    images(started / "here/data", 8).rename(started / "there/data")
    said = refusal(started / "run", steps=5)
    assert said == (
        f"resume: data was images:{started}/here/data in the checkpoint's run, and there is no "
        f"{started}/here/data; if it has moved, --data images:DIR says where to"
    )
    assert resumed(started / "run", steps=5, data="images:data")["steps"] == 5


def test_data_that_moved_with_the_folder_of_today_is_found_there(started, monkeypatch):
    images(started / "here/data", 8)
    trained(started / "run", model="cifar10", data="images:data", batch=16)
    (started / "here/data").rename(started / "there/data")
    monkeypatch.chdir(started / "there")
    assert resumed(started / "run", steps=3)["data"] == "images:data"


def test_a_users_own_network_and_data_are_found_from_another_folder(started, monkeypatch):
    (started / "here/own.py").write_text(OWN)
    trained(started / "run", model="own.py:net", data="own.py:data", batch=16)
    monkeypatch.chdir(started / "there")
    assert resumed(started / "run", steps=3)["model"] == f"{started}/here/own.py:net"
    (started / "here/own.py").rename(started / "there/own.py")
    assert "if it has moved, --model FILE.py:function says where to" in refusal(started / "run", steps=4)
    changes = {"model": "own.py:net", "data": "own.py:data"}
    assert resumed(started / "run", steps=4, **changes)["steps"] == 4


def overridden(run, rate, **changes):
    return launch.run(single_rank(), lambda: resumed_run(str(run), None, changes, override_rate=rate))


def rates(run):
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [each["rate"] for each in records if each["kind"] == "step"]


def test_a_rate_may_be_changed_by_saying_so_and_the_history_keeps_it(tmp_path):
    trained(tmp_path, **{"schedule.rate": 0.03, "schedule.warmup_epochs": 0.0})
    first = overridden(tmp_path, 0.01, steps=4)
    change = {"step": 2, "what": "schedule.rate", "from": 0.03, "to": 0.01}
    assert list(first["history"]) == [change]
    assert rates(tmp_path) == [0.03, 0.03, 0.01, 0.01]
    assert resumed(tmp_path, steps=5)["history"] == (change,)
    overridden(tmp_path, 0.5, steps=6)
    second = {"step": 5, "what": "schedule.rate", "from": 0.01, "to": 0.5}
    assert json.loads((tmp_path / "run.json").read_text())["history"] == [change, second]
    assert read_state(find_checkpoint(tmp_path)).history == (change, second)
    assert rates(tmp_path) == [0.03, 0.03, 0.01, 0.01, 0.01, 0.5]
    assert read_recipe(str(tmp_path / RECIPE)).schedule.rate == 0.5


def test_a_changed_rate_is_confirmed_once_by_a_line(tmp_path, capsys):
    trained(tmp_path, **{"schedule.rate": 0.03})
    capsys.readouterr()
    overridden(tmp_path, 0.01, steps=4)
    line = "schedule.rate: 0.03 up to step 2, 0.01 after it; the run's history keeps it"
    assert capsys.readouterr().err.splitlines().count(line) == 1
    resumed(tmp_path, steps=6)
    assert "schedule.rate" not in capsys.readouterr().err


def test_an_edited_rate_needs_to_be_said_too(tmp_path):
    trained(tmp_path, **{"schedule.rate": 0.03})
    edit(tmp_path, "rate = 0.03\n", "rate = 0.02\n")
    assert refusal(tmp_path, steps=4).endswith(
        "recipe.toml: schedule.rate was 0.03 in the checkpoint's run and is 0.02 now; must be the same: "
        "change it back, say --override-rate 0.02, or start a new run, without --resume"
    )
    assert [each["to"] for each in overridden(tmp_path, 0.02, steps=4)["history"]] == [0.02]


def test_the_same_rate_is_no_change(tmp_path):
    trained(tmp_path, **{"schedule.rate": 0.03})
    assert list(overridden(tmp_path, 0.03, steps=4)["history"]) == []


def test_a_changed_rate_gives_the_same_bits_wherever_the_run_goes_on(tmp_path):
    hashes = set()
    for steps in ((6,), (4, 6)):
        run = trained(tmp_path / str(len(steps)), **{"schedule.rate": 0.03})
        results = overridden(run, 0.01, steps=steps[0])
        for more in steps[1:]:
            results = resumed(run, steps=more)
        hashes.add(results["weights_sha256"])
    plain = trained(tmp_path / "plain", steps=6, **{"schedule.rate": 0.03})
    assert len(hashes) == 1
    assert json.loads((plain / "run.json").read_text())["weights_sha256"] not in hashes


def test_what_else_is_overridden_or_cannot_be_is_refused(tmp_path):
    trained(tmp_path)
    with pytest.raises(UserError, match=r"^override_rate: got 0\.1 beside schedule\.rate 0\.2; give one$"):
        overridden(tmp_path, 0.1, steps=4, **{"schedule.rate": 0.2})
    with pytest.raises(UserError, match=r"^schedule\.rate: got -1\.0; must be at least 0"):
        overridden(tmp_path, -1.0, steps=4)
    with pytest.raises(UserError, match=r"^resume: seed was 1 .* is 3 now; must be the same: go on"):
        overridden(tmp_path, 0.1, steps=4, seed=3)
    with pytest.raises(UserError, match=r"^override_rate: got 0\.1 without a run that goes on; give"):
        no_new_rate(0.1)
    no_new_rate(None)


def test_a_run_goes_on_by_the_command_that_began_it(tmp_path):
    given = {"epochs": 0, "steps": 3, "threads": 1, "schedule.rate": 0.02, "schedule.kind": "constant"}
    run = lockstep.train("digits", changes=given, out=str(tmp_path / "run"))
    again = resumed_run(str(run.folder), "digits", {**given, "steps": 5})
    assert again.recipe.schedule.rate == 0.02
    with pytest.raises(UserError, match=r"^resume: digits: schedule\.rate was 0\.02"):
        resumed_run(str(run.folder), "digits", {name: given[name] for name in given if "rate" not in name})


def test_a_run_that_has_stopped_early_goes_on_only_where_it_may_take_a_step(tmp_path):
    given = {"schedule.rate": 0.0, "schedule.kind": "constant"}  # which makes nothing better
    run = lockstep.train(
        "digits", changes=given, epochs=4, stop_after=1, threads=1, out=str(tmp_path / "run")
    )
    assert run.results["stopped_early"]
    before = (run.folder / "run.json").read_bytes()
    with pytest.raises(
        UserError, match="has stopped early, at step 44, after 1 evaluations without a better"
    ):
        lockstep.train(resume=run.folder)
    assert (run.folder / "run.json").read_bytes() == before
    assert lockstep.train(resume=run.folder, stop_after=0).results["steps"] == 88
