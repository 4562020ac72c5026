"""Checkpoints: what is in them, that they appear whole, and what a broken one says."""

import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from engine.config.errors import UserError
from engine.config.recipe import OptimizerFields
from engine.run import checkpoint
from engine.run.best import Best
from engine.run.checkpoint import (
    read_state,
    read_tensors,
    read_weights_and_state,
    save_checkpoint,
    saved_recipe,
)
from engine.run.finding import find_checkpoint
from engine.run.kept_checkpoints import best_of, checkpoints_of, note_best, remove, remove_newer, step_of
from engine.run.start import resumed_run
from engine.run.state import State
from engine.training.hashes import sha256_of
from tests.engine.cluster import changed, train
from tests.engine.graphs import residual, wide
from tests.golden.networks import with_state


def checkpoint_of(folder, graph, ranks=2, **fields):
    train(ranks, graph, changed(checkpoint_every=1, **fields), folder=folder)
    return find_checkpoint(folder)


def test_a_resumed_run_ends_with_the_bits_of_an_uninterrupted_one_on_any_number_of_ranks(tmp_path):
    graph = residual()
    whole, _ = train(1, graph, changed(steps=7))
    first = checkpoint_of(tmp_path, graph, ranks=2, steps=3)
    restore = read_state(first), read_tensors(first, graph)
    assert restore[0].step == 3
    for ranks in (1, 3, 4):
        resumed, _ = train(ranks, graph, changed(steps=7), restore=restore)
        assert resumed["weights_sha256"] == whole["weights_sha256"]
        assert resumed["final_loss"] == whole["final_loss"]


ALL_KINDS = {
    "adamw": {"optimizer": OptimizerFields("adamw", weight_decay=0.1, clip_norm=0.5), "ema": 0.9},
    "lars": {"optimizer": OptimizerFields("lars", weight_decay=0.1, decay_exempt=("*.bias",))},
    "lamb": {"optimizer": OptimizerFields("lamb", weight_decay=0.1), "ema": 0.9, "freeze": ("conv2",)},
    "sgd": {"ema": 0.8, "label_smoothing": 0.1},
    "weighted": {"class_weights": "balanced", "sampling": (1.0, 0.0, 3.0, 2.0), "mixup": 1.0},
}


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_every_optimizer_goes_on_with_all_that_it_keeps(tmp_path, kind):
    graph, fields = residual(), ALL_KINDS[kind]
    whole, _ = train(1, graph, changed(steps=7, **fields))
    first = checkpoint_of(tmp_path, graph, ranks=2, steps=3, **fields)
    restore = read_state(first), read_tensors(first, graph)
    for ranks in (1, 3):
        resumed, _ = train(ranks, graph, changed(steps=7, **fields), restore=restore)
        assert resumed["weights_sha256"] == whole["weights_sha256"]
        assert resumed["final_loss"] == whole["final_loss"]


def test_averages_of_state_go_on_too(tmp_path):
    graph = with_state()
    whole, _ = train(1, graph, changed(steps=6, ema=0.9))
    first = checkpoint_of(tmp_path, graph, steps=2, ema=0.9)
    resumed, _ = train(
        3, graph, changed(steps=6, ema=0.9), restore=(read_state(first), read_tensors(first, graph))
    )
    assert resumed["state_sha256"] == whole["state_sha256"]
    assert resumed["final_loss"] == whole["final_loss"]


@pytest.mark.parametrize("plan", ["data", "fc1=2,fc2=2"])
def test_what_an_optimizer_keeps_does_not_depend_on_ranks_or_plan(tmp_path, plan):
    fields = {"optimizer": OptimizerFields("lamb", weight_decay=0.1, clip_norm=0.5), "ema": 0.9}
    one = checkpoint_of(tmp_path / "one", wide(), ranks=1, **fields)
    four = checkpoint_of(tmp_path / "four", wide(), ranks=4, plan=plan, **fields)
    for name in ("model.safetensors", "optimizer.safetensors"):
        found, other = load_file(one / name), load_file(four / name)
        assert found.keys() == other.keys()
        assert all(found[each].tobytes() == other[each].tobytes() for each in found)


def test_the_model_is_the_average_where_there_is_one_and_the_weights_lie_beside_the_moments(tmp_path):
    graph = with_state()
    saved = checkpoint_of(tmp_path / "ema", graph, steps=3, ema=0.9)
    plain, state = checkpoint_of(tmp_path / "plain", graph, steps=3), read_state(saved)
    model, optimizer = (load_file(saved / f"{name}.safetensors") for name in ("model", "optimizer"))
    trained = load_file(plain / "model.safetensors")
    moments = {name for name in optimizer if name.startswith("momentum.")}
    assert optimizer.keys() == moments | {f"trained.{name}" for name in trained}
    for name, array in trained.items():
        assert optimizer[f"trained.{name}"].tobytes() == array.tobytes()
    assert any((model[name] != trained[name]).any() for name in trained if name.endswith("weight"))
    assert any((model[name] != trained[name]).any() for name in trained if name.startswith("scale1"))
    results, weights = train(1, graph, changed(steps=3, ema=0.9))
    assert all(model[name].tobytes() == array.tobytes() for name, array in weights.items())
    assert sha256_of(weights) == state.weights_sha256 == results["weights_sha256"]


def test_checkpoints_do_not_depend_on_the_ranks_that_wrote_them(tmp_path):
    graph = residual()
    one, four = (checkpoint_of(tmp_path / str(ranks), graph, ranks=ranks) for ranks in (1, 4))
    for name in ("model.safetensors", "optimizer.safetensors"):
        assert (one / name).read_bytes() == (four / name).read_bytes()


def test_weights_lie_in_standard_layout_under_standard_names(tmp_path):
    graph = residual()
    tensors = load_file(checkpoint_of(tmp_path, graph) / "model.safetensors")
    assert tensors["conv4.weight"].shape == (24, 16, 3, 3)
    assert tensors["fc5.weight"].shape == (4, 24)
    assert tensors["fc5.bias"].shape == (4,)
    _, weights = train(1, graph, changed())
    for name, array in weights.items():
        np.testing.assert_array_equal(tensors[name], array)


def test_the_format_is_the_one_that_earlier_versions_wrote(tmp_path):
    state = checkpoint_of(tmp_path, residual()) / "state.json"
    assert json.loads(state.read_text())["format"] == 2


def test_the_best_checkpoint_is_forgotten_with_the_steps_that_are_cut_back(tmp_path):
    for step in (1, 2):
        save_checkpoint(tmp_path, State(step, "", "samples"), {}, {})
    for best, is_left in ((2, False), (1, True)):
        note_best(tmp_path, Best("test_accuracy", 0.5, best, evaluated=best))
        remove_newer(tmp_path, 1)
        assert (best_of(tmp_path) is not None, (tmp_path / "checkpoints/best.json").exists()) == (
            is_left,
        ) * 2


@pytest.mark.parametrize("step", [10**300, -1, 1e308, "x", None, [1], True])
def test_a_best_step_that_cannot_be_is_none(tmp_path, step):
    save_checkpoint(tmp_path, State(2, "", "samples"), {}, {})
    noted = {"metric": "test_loss", "value": 0.5, "step": step}
    (tmp_path / "checkpoints/best.json").write_text(json.dumps(noted))
    assert best_of(tmp_path) is None


def test_the_first_checkpoint_of_a_run_is_found_after_a_power_cut(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(checkpoint, "sync_folder", synced.append)
    save_steps(tmp_path, 1)
    assert synced[0] == tmp_path  # which holds the new folder of checkpoints
    assert synced[-1] == tmp_path / "checkpoints"


def test_an_old_checkpoint_that_cannot_be_removed_costs_no_new_one(tmp_path, monkeypatch):
    def refused(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("engine.run.kept_checkpoints.remove", refused)
    assert [read_state(path).step for path in save_steps(tmp_path, 1, 2, 3)] == [1, 2, 3]


def test_of_a_linked_checkpoint_only_the_link_is_removed(tmp_path):
    first, _ = save_steps(tmp_path, 1, 2)
    elsewhere = tmp_path / "elsewhere"
    first.rename(elsewhere)
    first.symlink_to(elsewhere)
    remove(first)
    assert not first.is_symlink()
    assert read_state(elsewhere).step == 1


def test_another_format_is_named_alone(tmp_path):
    path = checkpoint_of(tmp_path, residual())
    (path / "state.json").write_text('{"format": 1}')
    with pytest.raises(UserError) as refused:
        read_state(path)
    assert str(refused.value) == f"{path}/state.json: has format 1; this version reads 2"


def test_only_the_newest_checkpoints_are_kept(tmp_path):
    train(1, residual(), changed(steps=5, checkpoint_steps=1), folder=tmp_path)
    assert [path.name for path in sorted((tmp_path / "checkpoints").iterdir())] == [
        "step-00000004",
        "step-00000005",
    ]


def test_what_a_killed_save_left_is_cleared_away_by_the_next(tmp_path):
    weights = {"a.weight": np.ones(3, np.float32)}
    for name in ("step-00000002.unfinished", "step-00000003.replaced"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    path = save_checkpoint(tmp_path, State(4, "", "samples"), weights, weights)
    assert list(path.parent.iterdir()) == [path]


def test_pruning_keeps_what_was_just_written(tmp_path):
    weights = {"a.weight": np.ones(3, np.float32)}
    for step in (22, 44, 10):
        path = save_checkpoint(tmp_path, State(step, "", "samples"), weights, weights)
    assert path.is_dir()
    assert sorted(each.name for each in path.parent.iterdir()) == ["step-00000010", "step-00000044"]


def test_steps_are_ordered_as_numbers(tmp_path):
    weights = {"a.weight": np.ones(3, np.float32)}
    for step in (99_999_999, 100_000_000):
        newest = save_checkpoint(tmp_path, State(step, "", "samples"), weights, weights)
    assert find_checkpoint(tmp_path) == newest


def test_an_unfinished_checkpoint_is_not_found(tmp_path):
    newest = checkpoint_of(tmp_path, residual())
    newest.rename(newest.with_suffix(".unfinished"))
    with pytest.raises(UserError, match="holds no checkpoint"):
        find_checkpoint(tmp_path)


def save_steps(run, *steps, **options):
    weights = {"a.weight": np.ones(3, np.float32)}
    return [save_checkpoint(run, State(step, "", "samples"), weights, weights, **options) for step in steps]


def test_what_a_user_puts_beside_checkpoints_or_inside_stays(tmp_path):
    (first,) = save_steps(tmp_path, 44)
    beside = ("step-00000044.best", "step-44", "step-00000044.unfinished.mine", "mine", "step-00000001")
    for name in beside:
        (first.parent / name).mkdir()
        (first.parent / name / "notes").touch()
    (first / "notes").touch()
    save_steps(tmp_path, 45, 46)
    assert all((first.parent / name / "notes").exists() for name in beside)
    assert [path.name for path in first.iterdir()] == ["notes"]
    assert find_checkpoint(tmp_path).name == "step-00000046"


@pytest.mark.parametrize("keep", [1, 2, 3, 5, 9])
def test_so_many_of_the_newest_are_kept_as_was_asked_for(tmp_path, keep):
    for step in range(1, 8):
        save_steps(tmp_path, step, keep=keep)
        kept = [step_of(each) for each in checkpoints_of(tmp_path)]
        assert kept == [*range(max(1, step - keep + 1), step + 1)]


def test_a_checkpoint_whose_replacement_was_cut_short_is_found_and_gets_its_name_back(tmp_path):
    old, newest = save_steps(tmp_path, 4, 5)
    newest.rename(newest.with_suffix(".replaced"))
    assert read_state(find_checkpoint(tmp_path)).step == 5
    save_steps(tmp_path, 6, keep=3)
    assert sorted(path.name for path in old.parent.iterdir()) == [f"step-0000000{n}" for n in (4, 5, 6)]


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def swap_a_byte(path):
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(content)


def test_of_two_damaged_checkpoints_the_whole_one_before_both_is_offered(tmp_path):
    graph = residual()
    newest = checkpoint_of(tmp_path, graph, checkpoint_steps=1, keep_checkpoints=3)
    second, whole = newest.with_name("step-00000003"), newest.with_name("step-00000002")
    for damaged in (newest, second):
        cut(damaged / "model.safetensors")
    with pytest.raises(UserError, match=rf"the one before it is whole: {whole}$"):
        read_tensors(newest, graph)


@pytest.mark.parametrize("damage", [cut, swap_a_byte, Path.unlink])
@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
def test_of_a_damaged_checkpoint_the_file_is_named_and_the_whole_one_before_it(tmp_path, name, damage):
    graph = residual()
    newest = checkpoint_of(tmp_path, graph, checkpoint_steps=1)
    damage(newest / name)
    whole = newest.with_name("step-00000003")
    if damage is swap_a_byte and name == "state.json":
        (newest / name).write_text("{}")
    offer = f"{newest.name}/{name}: .*; the one before it is whole: {whole}$"
    with pytest.raises(UserError, match=offer):
        read_tensors(find_checkpoint(tmp_path), graph)
    if name == "state.json":
        with pytest.raises(UserError, match=offer):
            read_state(newest)
    (whole / "state.json").unlink()
    with pytest.raises(UserError) as refused:
        read_tensors(newest, graph)
    assert "whole" not in str(refused.value)


def test_a_checkpoint_that_cannot_be_finished_leaves_no_half(tmp_path, monkeypatch):
    (first,) = save_steps(tmp_path, 1)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_durably", full)
    with pytest.raises(OSError, match="No space left"):
        save_steps(tmp_path, 2)
    assert list(first.parent.iterdir()) == [first]


def test_a_full_disk_is_said_also_where_what_was_begun_cannot_be_removed(tmp_path, monkeypatch):
    save_steps(tmp_path, 1)
    calls = []

    def sweep(_):
        calls.append(1)
        if len(calls) == 2:
            raise PermissionError(13, "Permission denied")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "sweep", sweep)
    monkeypatch.setattr(checkpoint, "write_durably", full)
    with pytest.raises(OSError, match="No space left"):
        save_steps(tmp_path, 2)
    assert len(calls) == 2


def test_what_cannot_be_swept_after_saving_costs_no_checkpoint(tmp_path, monkeypatch):
    calls = []

    def sweep(_):
        calls.append(1)
        if len(calls) == 2:
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(checkpoint, "sweep", sweep)
    (path,) = save_steps(tmp_path, 1)
    assert len(calls) == 2
    assert read_state(path).step == 1


def test_a_checkpoint_is_replaced_whole(tmp_path):
    weights = {"a.weight": np.ones(3, np.float32)}
    for value in (1, 2):
        path = save_checkpoint(tmp_path, State(4, f"seed = {value}", "samples"), weights, weights)
    assert read_state(path).recipe == "seed = 2"


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors"])
@pytest.mark.parametrize("keep", [0, 4, 100, -8])
def test_a_truncated_tensor_file_is_named(tmp_path, name, keep):
    graph = residual()
    path = checkpoint_of(tmp_path, graph) / name
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(UserError, match=rf"{name}: cannot be read as safetensors"):
        read_tensors(path.parent, graph)


@pytest.mark.parametrize("kind", ["BF16", "F8_E4M3", "F8_E5M2", "F16", "I32"])
def test_tensors_of_another_type_are_refused(tmp_path, kind):
    graph = residual()
    path = checkpoint_of(tmp_path, graph) / "model.safetensors"
    forget_sums(path.parent)
    size = {"F16": 2, "BF16": 2, "I32": 4}.get(kind, 1)
    head, begin = {}, 0
    for name, tensor in load_file(path).items():
        end = begin + tensor.size * size
        head[name] = {"dtype": kind, "shape": tensor.shape, "data_offsets": (begin, end)}
        begin = end
    text = json.dumps(head).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(begin))
    with pytest.raises(UserError, match=r"(values of another type|the model wants float32)"):
        read_tensors(path.parent, graph)


def test_of_a_damaged_recipe_the_whole_checkpoint_before_it_is_named(tmp_path):
    newest = checkpoint_of(tmp_path, residual(), checkpoint_steps=1)
    state = json.loads((newest / "state.json").read_text())
    (newest / "state.json").write_text(json.dumps(state | {"recipe": "seed = ["}))
    whole = newest.with_name("step-00000003")
    offer = f"{newest.name}: is not TOML: .*; the one before it is whole: {whole}$"
    for read in (
        lambda: saved_recipe(newest, read_state(newest)),
        lambda: resumed_run(str(newest), None, {}),
    ):
        with pytest.raises(UserError, match=offer):
            read()


def forget_sums(folder):
    state = json.loads((folder / "state.json").read_text())
    del state["files"]  # as in checkpoints of earlier versions
    (folder / "state.json").write_text(json.dumps(state))


def test_tensors_of_another_model_are_refused_by_name_and_shape(tmp_path):
    graph = residual()
    path = checkpoint_of(tmp_path, graph) / "model.safetensors"
    forget_sums(path.parent)
    tensors = load_file(path)
    tensors["fc5.weight"] = np.zeros((4, 25), np.float32)
    save_file(tensors, path)
    with pytest.raises(
        UserError, match=r"float32 \[4, 25\] for fc5.weight; the model wants float32 \[4, 24\]"
    ):
        read_tensors(path.parent, graph)
    del tensors["fc5.weight"]
    save_file(tensors, path)
    with pytest.raises(UserError, match=r"holds nothing for fc5.weight"):
        read_tensors(path.parent, graph)


BEST = '{"metric": "test_loss", "value": %s, "step": 1, "evaluated": 1, "without": 0}'
SCALES = "normalisation must have scale and shift, a number for each channel"


def with_field(name, text):
    return f'{{"format": 2, "step": 4, "recipe": "", "data": "", "{name}": {text}}}'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"format": 2, "step": 1, "recipe": ""}', "data is missing"),
        ('{"format": 2, "step": "1", "recipe": "", "data": ""}', "step is '1'"),
        (with_field("files", '{"model.safetensors": 3}'), "files is {'model.safetensors': 3}"),
        (with_field("history", "[3]"), "history is [3]"),
        (with_field("best", '{"step": 3}'), "metric is missing"),
        (with_field("best", BEST % '"x"'), "best.value is 'x'"),
        (with_field("best", BEST % "true"), "best.value is True"),
        (with_field("normalisation", "{}"), SCALES),
        (with_field("normalisation", '{"scale": [1], "shift": [1, 2]}'), SCALES),
        (with_field("normalisation", '{"scale": ["1"], "shift": [1]}'), SCALES),
        (with_field("normalisation", '{"scale": [1e999], "shift": [1]}'), SCALES),
        (with_field("normalisation", '{"scale": [], "shift": []}'), SCALES),
        (with_field("normalisation", '{"scale": [1], "shift": [NaN]}'), SCALES),
        (with_field("normalisation", '{"scale": 1, "shift": 1}'), SCALES),
        (
            with_field("normalisation", '{"scale": [0.0], "shift": [1]}'),
            "normalisation has the scale 0, which makes all pixels the same",
        ),
        ("{", "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
    ],
)
def test_what_is_wrong_with_a_state_file_is_said(tmp_path, text, said):
    path = checkpoint_of(tmp_path, residual())
    (path / "state.json").write_text(text)
    with pytest.raises(UserError) as refused:
        read_state(path)
    assert str(refused.value) == f"{path}/state.json: cannot be read as a checkpoint's state: {said}"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 2}', '{"format": 1, "step": 1, "recipe": ""}'])
def test_a_broken_state_file_is_named(tmp_path, text):
    path = checkpoint_of(tmp_path, residual())
    (path / "state.json").write_text(text)
    with pytest.raises(UserError, match=r"state\.json: "):
        read_state(path)


def test_a_state_without_names_of_classes_is_read_and_odd_names_come_back(tmp_path):
    state = State(1, "", "data", class_names=("cat", "dog\udcff"))
    path = save_checkpoint(tmp_path, state, {}, {}) / "state.json"
    assert read_state(path.parent) == state
    older = {name: value for name, value in json.loads(path.read_text()).items() if name != "class_names"}
    path.write_text(json.dumps(older))
    assert read_state(path.parent).class_names == ()


@pytest.mark.parametrize("value", [None, 3, "x", [], {}, [[]], {"x": 1}, True, -1.5])
def test_a_state_with_any_values_is_read_or_named(tmp_path, value):
    path = checkpoint_of(tmp_path, residual())
    state = json.loads((path / "state.json").read_text())
    for name in state:
        (path / "state.json").write_text(json.dumps(state | {name: value}))
        for read in (read_state, lambda each: read_tensors(each, residual())):
            with suppress(UserError):
                read(path)


def test_a_checkpoint_has_the_hash_of_its_weights_under_any_plan(tmp_path):
    graph = wide()
    for ranks, plan in ((1, "data"), (2, "fc1=2,fc4=2"), (4, "data")):
        folder = tmp_path / f"{ranks}-{plan}"
        results, weights = train(ranks, graph, changed(checkpoint_every=1, plan=plan), folder=folder)
        state = read_state(find_checkpoint(folder))
        assert state.weights_sha256 == results["weights_sha256"] == sha256_of(weights)
        assert state.model["input_shape"] == list(graph.input_shape)
        assert state.model["outputs"] == graph.output_shape[0]


def test_the_weights_are_read_without_the_velocities(tmp_path):
    graph = residual()
    path = checkpoint_of(tmp_path, graph)
    whole = read_tensors(path, graph)
    (path / "optimizer.safetensors").unlink()
    weights = read_weights_and_state(path, graph)
    assert weights.keys() == {name for name in whole if not name.startswith("momentum.")}
    assert all(np.array_equal(whole[name], weight) for name, weight in weights.items())


def test_the_state_is_plain_json(tmp_path):
    state = json.loads((checkpoint_of(tmp_path, residual()) / "state.json").read_text())
    assert state["step"] == 4
    assert state["class_names"] == [str(label) for label in range(len(state["class_names"]))]
    assert "[schedule]" in state["recipe"]
