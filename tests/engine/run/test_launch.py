"""From a start to a finished run, on threads as ranks: what ranks must agree on, and how a run goes on."""

import errno
import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from comm.threads import run_ranks, single_rank
from engine.config.errors import Impatience, UserError
from engine.data.readers import probe
from engine.host import affinity, stop_signals
from engine.run import beginning, building, checkpoint, launch
from engine.run.callbacks import Callback
from engine.run.failures import RunEndedError
from engine.run.finding import find_checkpoint
from engine.run.launch import run
from engine.run.prepare import facts_to_compare, prepare
from engine.run.start import new_run, resumed_run
from tests.engine.data.files import random_bytes, write_image

SHORT = {"epochs": 0, "steps": 2, "threads": 1, "checkpoint_steps": 1, "schedule.kind": "constant"}


def trained(out: Path, **changes) -> Path:
    run(single_rank(), lambda: new_run("digits", {**SHORT, **changes, "out": str(out)}))
    return out


def resumed(path: Path, **changes) -> dict:
    return run(single_rank(), lambda: resumed_run(str(path), None, changes))


def records(folder: Path, kind: str) -> list[int]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line["step"] for line in lines if line["kind"] == kind]


def images(folder: Path, count: int, *, splits=("train",)) -> Path:
    for split in splits:
        for label in ("cat", "dog"):
            for number in range(count):
                write_image(folder / split / label / f"{number}.png", random_bytes(32, 32, 3, seed=number))
    return folder


@pytest.mark.parametrize("changes", [{}, {"epochs": 0, "steps": 1}])
def test_a_finished_run_has_nothing_to_go_on_with(tmp_path, changes):
    trained(tmp_path)
    before = sorted(path.name for path in tmp_path.rglob("*"))
    total = changes.get("steps", 2)
    with pytest.raises(
        UserError, match=f"^resume: the run is at step 2 of {total}: give more --epochs or --st"
    ):
        resumed(tmp_path, **changes)
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_a_run_goes_on_for_more_steps_in_its_own_folder_with_the_same_bits(tmp_path):
    trained(tmp_path / "a", steps=5)
    trained(tmp_path / "b")
    results = resumed(tmp_path / "b", steps=5)
    assert results["weights_sha256"] == json.loads((tmp_path / "a/run.json").read_text())["weights_sha256"]
    assert records(tmp_path / "b", "step") == [1, 2, 3, 4, 5]


def test_going_on_from_an_older_checkpoint_leaves_nothing_of_what_came_later(tmp_path):
    trained(tmp_path, steps=5)
    resumed(tmp_path / "checkpoints/step-00000004", steps=6)
    assert records(tmp_path, "step") == [1, 2, 3, 4, 5, 6]
    assert [path.name for path in sorted((tmp_path / "checkpoints").iterdir())] == [
        "step-00000005",
        "step-00000006",
    ]


def test_a_run_whose_checkpoints_are_a_link_goes_on_in_its_own_folder(tmp_path):
    run, place = trained(tmp_path / "run"), tmp_path / "elsewhere/checkpoints"
    place.parent.mkdir()
    (run / "checkpoints").rename(place)
    (run / "checkpoints").symlink_to(place)
    (tmp_path / "link").symlink_to(run)
    assert resumed(tmp_path / "link", steps=3)["steps"] == 3
    assert records(run, "step") == [1, 2, 3]
    assert [path.name for path in place.parent.iterdir()] == ["checkpoints"]
    assert resumed(run / "checkpoints/step-00000003", steps=4)["steps"] == 4


def test_a_run_whose_checkpoints_are_a_link_to_those_of_another_is_refused(tmp_path):
    run, other = trained(tmp_path / "run"), trained(tmp_path / "other", steps=4)
    (run / "checkpoints").rename(run / "before")
    (run / "checkpoints").symlink_to(other / "checkpoints")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=f"^resume: {run}/checkpoints is a link to .* or --resume {other}$"):
        resumed(run, steps=6)
    assert sorted(tmp_path.rglob("*")) == before
    assert resumed(run, steps=5, out=str(tmp_path / "new"))["steps"] == 5


@pytest.mark.parametrize("how", ["below 0", "other name"])
def test_a_checkpoint_whose_step_is_not_that_of_its_name_removes_nothing(tmp_path, how):
    trained(tmp_path, steps=3)
    newest = tmp_path / "checkpoints/step-00000003"
    if how == "below 0":
        state = json.loads((newest / "state.json").read_text())
        (newest / "state.json").write_text(json.dumps({**state, "step": -5}))
    else:
        newest = newest.rename(newest.with_name("step-00000099"))
    before = sorted(tmp_path.rglob("*"))
    said = (
        "step is -5; must be" if how == "below 0" else "step is 3, in the folder of step 99; a checkpoint's"
    )
    whole = tmp_path / "checkpoints/step-00000002"
    for named in (tmp_path, newest):
        with pytest.raises(
            UserError, match=f"{newest}/state.json: .*{said}.*; the one before it is whole: {whole}$"
        ):
            resumed(named, steps=5)
    assert sorted(tmp_path.rglob("*")) == before


def damage(path: Path) -> Path:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
def test_a_run_goes_on_from_the_checkpoint_before_a_damaged_one_and_says_so(tmp_path, capsys, name, ranks):
    trained(tmp_path / "a", steps=5)
    trained(tmp_path / "b", steps=3)
    damaged = damage(tmp_path / "b/checkpoints/step-00000003" / name)
    with pytest.raises(UserError, match=f"{name}: .*; the one before it is whole: .*/step-00000002$"):
        resumed(damaged.parent, steps=5)
    capsys.readouterr()
    again = run_ranks(
        ranks, lambda world: run(world, lambda: resumed_run(str(tmp_path / "b"), None, {"steps": 5}))
    )
    wanted = json.loads((tmp_path / "a/run.json").read_text())["weights_sha256"]
    assert {each["weights_sha256"] for each in again} == {wanted}
    assert records(tmp_path / "b", "step") == [1, 2, 3, 4, 5]
    (warning,) = (line for line in capsys.readouterr().err.splitlines() if "resume: " in line)
    assert warning.startswith(f"warning: resume: {damaged}: ")
    assert warning.endswith("; going on from step-00000002")
    assert warning.removeprefix("warning: ") in again[0]["warnings"]


def test_a_run_of_which_no_checkpoint_is_whole_does_not_go_on(tmp_path):
    trained(tmp_path, steps=3)
    for step in (2, 3):
        damage(tmp_path / f"checkpoints/step-0000000{step}/model.safetensors")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(
        UserError, match=r"step-00000003/model\.safetensors: is damaged in \S+: has [^;]*; had "
    ):
        resumed(tmp_path, steps=5)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("error", ["another version", "no permission"])
def test_a_checkpoint_that_may_be_whole_is_not_passed_over(tmp_path, monkeypatch, error):
    trained(tmp_path, steps=3)
    newest = tmp_path / "checkpoints/step-00000003"
    if error == "another version":
        state = json.loads((newest / "state.json").read_text())
        (newest / "state.json").write_text(json.dumps({**state, "format": 99}))
    else:
        real = Path.stat

        def stat(self, **named):
            if self == newest / "model.safetensors":
                raise PermissionError(13, "Permission denied", str(self))
            return real(self, **named)

        monkeypatch.setattr(Path, "stat", stat)
    with pytest.raises(UserError, match=r"has format 99|Permission denied"):
        resumed(tmp_path, steps=5)


def test_what_all_ranks_find_wrong_with_their_cores_is_said_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(affinity, "_masks", lambda: ({0}, {0, 1}))
    run_ranks(2, lambda world: run(world, lambda: new_run("digits", {**SHORT, "out": str(tmp_path)})))
    warnings = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert warnings == [
        "warning: the launcher bound 2 ranks to 1 core and left 1 of the host idle; use them with "
        "mpirun --bind-to none, or srun --cpus-per-task=N",
        "warning: 2 ranks x 1 thread share 1 core; start fewer ranks on each host",
    ]


def test_a_second_run_does_not_write_over_a_first(tmp_path):
    trained(tmp_path / "run")
    before = (tmp_path / "run/metrics.jsonl").read_text()
    with pytest.raises(
        UserError, match=r"^out: .*run already holds a run's metrics\.jsonl: give another --out"
    ):
        trained(tmp_path / "run", seed=7)
    with pytest.raises(UserError, match=r"^out: .*run already holds a run's metrics"):
        trained(tmp_path / "other")
        resumed(tmp_path / "other", steps=4, out=str(tmp_path / "run"))
    assert (tmp_path / "run/metrics.jsonl").read_text() == before


def test_a_saved_recipe_runs_again_in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trained(tmp_path / "run")
    run(single_rank(), lambda: new_run("run/recipe.toml", {}))
    (again,) = (tmp_path / "runs").iterdir()
    hashes = {
        json.loads((each / "run.json").read_text())["weights_sha256"] for each in (again, tmp_path / "run")
    }
    assert len(hashes) == 1


def test_a_checkpoint_outside_of_a_run_needs_a_folder_to_write_to(tmp_path):
    trained(tmp_path / "run")
    moved = (tmp_path / "run/checkpoints/step-00000001").rename(tmp_path / "keep")
    with pytest.raises(
        UserError, match=r"^resume: .*keep does not lie in a run's checkpoints/; give --out DIR"
    ):
        resumed(moved)
    resumed(moved, out=str(tmp_path / "new"))
    assert records(tmp_path / "new", "step") == [2]
    assert not (tmp_path / "metrics.jsonl").exists()


def test_links_to_runs_and_checkpoints_lead_to_their_folders(tmp_path):
    trained(tmp_path / "run")
    (tmp_path / "latest").symlink_to(tmp_path / "run/checkpoints/step-00000001")
    resumed(tmp_path / "latest", steps=3)
    assert records(tmp_path / "run", "step") == [1, 2, 3]


def test_the_data_of_a_run_may_move_but_not_change(tmp_path):
    first, other = images(tmp_path / "here", 8), images(tmp_path / "other", 9)
    out = trained(tmp_path / "run", model="cifar10", data=f"images:{first}", batch=16)
    with pytest.raises(UserError, match=r"^resume: images:.*other has other samples \(images .*\) than"):
        resumed(out, steps=3, data=f"images:{other}")
    with pytest.raises(
        UserError, match=r"^resume: data was images in .* and is synthetic now; must be the same"
    ):
        resumed(out, steps=3, data="synthetic")
    assert resumed(out, steps=3, data=f"images:{first.rename(tmp_path / 'there')}")["steps"] == 3


def test_a_cosine_cannot_be_made_longer(tmp_path):
    trained(tmp_path, **{"schedule.kind": "cosine"})
    with pytest.raises(
        UserError, match=r'^resume: steps was 2 .* is 4 now; with schedule\.kind "cosine" the len'
    ):
        resumed(tmp_path, steps=4)


def differing(changes: list[dict], start=new_run) -> None:
    run_ranks(2, lambda world: run(world, lambda: start("digits", {**SHORT, **changes[world.rank]})))


def test_ranks_with_another_recipe_are_refused(tmp_path):
    for field, values in (("seed", (1, 2)), ("evaluate_every", (1, 0)), ("checkpoint_steps", (1, 2))):
        with pytest.raises(
            UserError,
            match=f"^rank 1 has {field} {values[1]}, rank 0 has {values[0]}; must be the same on all",
        ):
            differing([{field: value, "out": str(tmp_path)} for value in values])
    assert not list(tmp_path.iterdir())


def test_ranks_that_see_other_images_are_refused(tmp_path):
    paths = [images(tmp_path / str(count), count) for count in (9, 8)]
    with pytest.raises(
        UserError, match=r"^rank 1 has training samples 16, rank 0 has 18; must be the same on all"
    ):
        differing([{"model": "cifar10", "data": f"images:{path}", "batch": 16} for path in paths])
    (tmp_path / "9/train/cat/8.png").rename(tmp_path / "9/train/cat/x.png")
    paths[1] = images(tmp_path / "same number", 9)
    with pytest.raises(
        UserError, match=r"^rank 1 has training set \w{16}, rank 0 has \w{16}; must be the same"
    ):
        differing([{"model": "cifar10", "data": f"images:{path}", "batch": 16} for path in paths])


def test_ranks_compare_all_that_their_bits_depend_on(tmp_path):
    data = f"images:{images(tmp_path, 8)}"
    changes = {**SHORT, "model": "cifar10", "data": data, "batch": 16}
    compared = facts_to_compare(prepare(new_run("digits", changes), 1))
    assert {"numba", "llvmlite", "numpy", "kernel sources"} <= set(compared)


def test_a_run_says_what_has_decoded_its_images(tmp_path):
    photographs = {"model": "cifar10", "data": f"images:{images(tmp_path / 'data', 8)}", "batch": 16}
    for name, changes in (("photographs", photographs), ("digits", {})):
        trained(tmp_path / name, **changes)
    found = {
        name: json.loads((tmp_path / name / "run.json").read_text()) for name in ("photographs", "digits")
    }
    assert found["photographs"]["image_decoder"].startswith("Pillow ")
    assert found["digits"]["image_decoder"] is None


def test_ranks_whose_decoder_makes_other_pixels_are_refused_before_a_folder_is_made(tmp_path, monkeypatch):
    data, turn = f"images:{images(tmp_path / 'data', 8)}", iter("ab")
    monkeypatch.setattr(probe, "probe", lambda _: {"resizing": next(turn)})
    with pytest.raises(
        UserError, match=r"^images: rank 1 on .* makes other pixels of a test image than rank 0"
    ):
        differing([{"model": "cifar10", "data": data, "batch": 16, "out": str(tmp_path / "run")}] * 2)
    assert not (tmp_path / "run").exists()


def test_the_same_data_may_lie_in_another_place_on_each_rank(tmp_path):
    paths = [images(tmp_path / name, 8) for name in ("here", "there")]
    differing([{"model": "cifar10", "data": f"images:{p}", "batch": 16, "out": str(tmp_path)} for p in paths])


def test_ranks_that_find_other_checkpoints_are_refused(tmp_path):
    runs = [trained(tmp_path / str(steps), steps=steps) for steps in (3, 2)]
    with pytest.raises(
        UserError, match=r"^rank 1 has checkpoint step 2, rank 0 has step 3; must be the same on all"
    ):
        run_ranks(2, lambda world: run(world, lambda: resumed_run(str(runs[world.rank]), None, {"steps": 5})))
    other = trained(tmp_path / "other", steps=3, checkpoint_every=0)
    with pytest.raises(UserError, match=r"^rank 1 has (state of the checkpoint|checkpoint_every)"):
        runs[1] = other
        run_ranks(2, lambda world: run(world, lambda: resumed_run(str(runs[world.rank]), None, {"steps": 5})))


def test_a_trace_that_cannot_be_written_is_refused_on_all_ranks_before_the_first_step(tmp_path):
    changes = {"out": str(tmp_path / "run"), "trace": str(tmp_path / "none/trace.json")}
    messages = []

    def rank(world):
        with pytest.raises(UserError) as refused:
            run(world, lambda: new_run("digits", SHORT | changes))
        messages.append(str(refused.value))

    run_ranks(3, rank)
    assert set(messages) == {f"trace: {tmp_path}/none/trace.json: there is no folder {tmp_path}/none"}
    assert len(messages) == 3
    assert not (tmp_path / "run").exists()


def test_a_refused_trace_leaves_a_run_as_it_was(tmp_path):
    run_folder = trained(tmp_path / "run", steps=3, checkpoint_steps=1)
    before = {path: path.read_bytes() for path in run_folder.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=r"trace: .* there is no folder"):
        resumed(min((run_folder / "checkpoints").iterdir()), steps=4, trace=str(tmp_path / "none/trace.json"))
    assert {path: path.read_bytes() for path in run_folder.rglob("*") if path.is_file()} == before


def test_a_trace_may_lie_in_the_runs_new_folder_and_a_run_goes_on_without_one(tmp_path):
    trained(tmp_path / "run", trace=str(tmp_path / "run/trace.json"))
    content = (tmp_path / "run/trace.json").read_text()
    assert resumed(tmp_path / "run", steps=4)["steps"] == 4
    assert (tmp_path / "run/trace.json").read_text() == content


def test_the_end_of_a_run_says_where_the_time_went(tmp_path, capsys):
    trained(tmp_path, steps=4)
    errors = capsys.readouterr().err
    lines = errors[errors.index("where the time went: ") :].splitlines()
    labels = [line[:20].strip() for line in lines if line.startswith("  ")]
    assert labels == [
        "forward", "backward weights", "backward data", "update", "exposed communicat", "wait for data",
        "rest",
    ]  # fmt: skip
    assert lines[-1].startswith("done; ")


def test_a_full_disk_in_the_middle_of_a_run_is_one_line(tmp_path, monkeypatch):
    def full(*_) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_durably", full)
    with pytest.raises(UserError) as ended:
        trained(tmp_path)
    line = f"out: {tmp_path}: cannot be written: No space left on device; after step 2: it could not be saved"
    assert str(ended.value) == line


def test_more_memory_than_there_is_is_one_line_and_exit_code_2(tmp_path, monkeypatch, capsys):
    """Memory that was there when it was planned may be gone."""
    monkeypatch.setattr(building, "build_rank", lambda *_, **__: np.empty(1 << 62, np.uint8))
    with pytest.raises(SystemExit) as end:
        trained(tmp_path)
    assert end.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: memory: Unable to allocate 4.00 EiB for an array")
    assert error.endswith("; lower --batch, or use more hosts")


def test_an_unreadable_sample_of_one_rank_ends_the_others(tmp_path):
    data = images(tmp_path / "data", 8)
    (data / "train/dog/3.png").write_bytes(b"no image")
    changes = {"model": "cifar10", "data": f"images:{data}", "batch": 16, "out": str(tmp_path / "run")}
    changes["overlap"] = False  # ranks that are threads cannot end each other's communication threads
    with pytest.raises(
        RunEndedError, match=r"train/dog/3\.png: cannot be decoded.*; after step 0: there was nothing to save"
    ):
        differing([changes] * 2)


def test_an_unreadable_test_image_costs_no_training(tmp_path):
    data = images(tmp_path / "data", 8, splits=("train", "test"))
    (data / "test/dog/3.png").write_bytes(b"no image")
    with pytest.raises(
        UserError, match=r"test/dog/3\.png: cannot be decoded.*; after step 1: what was done is"
    ):
        trained(
            tmp_path / "run", model="cifar10", data=f"images:{data}", batch=16, steps=2, checkpoint_steps=0
        )
    assert find_checkpoint(tmp_path / "run").name == "step-00000001"


def test_sizes_of_messages_and_the_plan_of_a_cluster_change_no_bit(tmp_path):
    def trained(name, **changes):
        changes = {"epochs": 0, "steps": 3, "threads": 1, "out": str(tmp_path / name), **changes}
        results, *_ = run_ranks(2, lambda world: run(world, lambda: new_run("digits", changes)))
        return results

    usual = trained("usual")
    other = trained("other", bucket_kib=0, chunk_kib=1, plan="auto", cluster="aws_c4_8xlarge")
    assert other["plan"] == "fc4=2"
    assert other["weights_sha256"] == usual["weights_sha256"]


@pytest.mark.parametrize("ranks", [1, 2])
def test_data_is_checked_before_a_folder_is_made_if_asked_for(tmp_path, ranks):
    images(tmp_path / "data", 8, splits=("train", "test"))
    (tmp_path / "data" / "test" / "dog" / "5.png").write_bytes(b"")
    changes = {"data": f"images:{tmp_path / 'data'}", "batch": 16, "out": str(tmp_path / "out")}

    def work(world):
        with pytest.raises(
            UserError, match=r"5\.png: cannot be decoded: it is empty; python -m engine\.data check"
        ):
            run(world, lambda: replace(new_run("cifar10", changes), check_data=True))

    run_ranks(ranks, work)
    assert not (tmp_path / "out").exists()


def test_a_step_in_which_code_of_the_users_ends_the_program_is_one_line_and_no_success(
    tmp_path, monkeypatch, capsys
):
    def leave(*_, **__):
        raise SystemExit(0)

    monkeypatch.setattr(launch, "run_session", leave)
    with pytest.raises(SystemExit) as ended:
        trained(tmp_path / "run")
    assert ended.value.code == 2
    assert "error: run: SystemExit: 0; code of yours must not end the program" in capsys.readouterr().err
    with pytest.raises(UserError, match=r"^run: SystemExit: 0; "):
        launch.run_in_process(single_rank(), lambda: new_run("digits", {**SHORT, "out": str(tmp_path / "a")}))


MOVING = """
import os
import numpy as np
from lockstep import ArrayDataset, DataSource, GraphBuilder, Linear

def data():
    os.chdir("/")
    return DataSource(ArrayDataset(np.eye(4, dtype=np.float32).repeat(16, 0), np.arange(64) % 4), None)

def net(classes=4):
    os.chdir("/")
    made = GraphBuilder((4,))
    made.add("fc", Linear(classes))
    return made.graph()
"""


@pytest.mark.parametrize("mover", ["model", "data", "callback"])
def test_code_of_the_users_that_changes_the_folder_moves_nothing_of_a_run(tmp_path, monkeypatch, mover):
    class Moving(Callback):
        def on_step(self, run, record):
            monkeypatch.chdir("/")

    here, out = tmp_path / "here", tmp_path / "here/run"
    here.mkdir()
    monkeypatch.chdir(here)
    (here / "mine.py").write_text(MOVING)
    fields = {"callback": {}, "data": {"data": "mine.py:data", "model": "mine.py:net"}}
    fields["model"] = {"model": "mine.py:net", "data": "mine.py:data"}
    changes = {**SHORT, "batch": 16, "trace": "t.json", "out": "run", **fields[mover]}
    callbacks = [Moving()] if mover == "callback" else []
    done = launch.run_in_process(single_rank(), lambda: new_run("digits", changes), callbacks=callbacks)
    assert Path.cwd() == Path("/")
    assert done.folder == out
    assert (here / "t.json").exists()
    assert sorted(path.name for path in here.iterdir()) == ["mine.py", "run", "t.json"]
    saved = find_checkpoint(out)
    assert checkpoint.read_state(saved).started_in == str(here)
    assert resumed(out, steps=3)["steps"] == 3


def test_a_wish_to_end_while_all_samples_are_read_is_granted_at_once(tmp_path, monkeypatch, capfd):
    def ended(code):
        raise Impatience(code)

    def asked(*_, **__):
        os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail("the samples were read to the end")

    monkeypatch.setattr(stop_signals.os, "_exit", ended)
    monkeypatch.setattr(beginning, "check_share", asked)
    start = replace(new_run("digits", {**SHORT, "out": str(tmp_path / "run")}), check_data=True)
    with stop_signals.listening(), pytest.raises(Impatience, match="130"):
        run(single_rank(), lambda: start)
    assert capfd.readouterr().err == "interrupted\n"
    assert not (tmp_path / "run").exists()


def test_a_run_that_skips_bad_samples_ends_with_the_same_bits_on_any_ranks_and_lists_them(tmp_path, capsys):
    data = images(tmp_path / "data", 24, splits=("train", "test"))
    bad = [data / "train/cat/3.png", data / "train/dog/11.png", data / "test/dog/5.png"]
    for path in bad:
        path.write_bytes(path.read_bytes()[:100])
    changes = {"model": "cifar10", "data": f"images:{data}", "batch": 16, "epochs": 2, "steps": 0}
    changes |= {"checkpoint_steps": 0}
    with pytest.raises(UserError, match=r"\.png: cannot be decoded"):
        trained(tmp_path / "stops", **changes)
    found = {}
    for ranks in (1, 2, 3):
        out = tmp_path / str(ranks)
        given = {**SHORT, **changes, "out": str(out), "on_bad_sample": "skip", "overlap": False}
        run_ranks(ranks, lambda world, given=given: run(world, lambda: new_run("digits", given)))
        found[ranks] = json.loads((out / "run.json").read_text())
        said = capsys.readouterr().err
        assert said.count("3.png: cannot be decoded") >= 1
        assert "another sample takes its place" in said
        assert "5.png: cannot be decoded" in said
        assert "it is left out" in said
    names = ("weights_sha256", "state_sha256", "bad_samples", "test_loss", "test_accuracy", "final_loss")
    assert [{name: each[name] for name in names} for each in found.values()] == [
        {name: found[1][name] for name in names}
    ] * 3
    assert [line.partition(": ")[0] for line in found[1]["bad_samples"]] == sorted(map(str, bad))
    assert round(found[1]["test_accuracy"] * 47, 6) % 1 == 0  # of the 47 that can be read
