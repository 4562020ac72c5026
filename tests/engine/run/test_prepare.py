"""What is read and checked before a first step: the head follows the data, the user's code is compared."""

import json

import numpy as np
import pytest

from comm.threads import single_rank
from engine.config.errors import UserError
from engine.config.recipe import parse_recipe
from engine.run.finding import find_checkpoint
from engine.run.launch import run
from engine.run.prepare import facts_to_compare, prepare
from engine.run.start import new_run, resumed_run
from tests.engine.data.files import write_image
from tests.engine.run.test_launch import trained

OWN = """
from lockstep import ArrayDataset, DataSource, Flatten, GraphBuilder, Linear
import numpy as np

def net(classes=10):
    net = GraphBuilder((6,))
    net.add("fc", Linear(classes))
    return net.graph()

def fixed():
    return net(10)

def data(count=64, kinds=3):
    x = np.random.default_rng(1).standard_normal((count, 6))
    return DataSource(ArrayDataset(x, np.arange(count) % kinds), None)
"""


@pytest.fixture
def own(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    return tmp_path / "own.py"


def start(**changes):
    return new_run("digits", {"epochs": 0, "steps": 3, "batch": 16, **changes})


def test_the_head_follows_the_data_and_the_recipe_says_so(own):
    prepared = prepare(start(model=f"{own}:net", data=f"{own}:data"), 1)
    assert prepared.graph.output_shape == (3,)
    assert prepared.start.recipe.model_arguments == {"classes": 3}
    saved = parse_recipe(prepared.start.recipe.to_toml(), "saved")
    assert (saved.model, saved.model_arguments) == (f"{own}:net", {"classes": 3})


def test_class_folders_of_images_decide_the_outputs(tmp_path):
    for name in ("cat", "dog", "emu"):
        for index in range(8):
            write_image(tmp_path / f"train/{name}/{index}.png", np.zeros((32, 32, 3), np.uint8))
    prepared = prepare(start(model="cifar10", data=f"images:{tmp_path}"), 1)
    assert prepared.graph.output_shape == (3,)
    assert prepared.data.class_names == ("cat", "dog", "emu")
    assert prepared.data.lines() == [
        "training: 24 images in 3 classes",
        "the network follows the data: 3 outputs, not 10",
    ]


def test_a_head_that_the_recipe_or_the_function_fixes_does_not_follow(own):
    asked = {"model_arguments": {"classes": 7}}
    prepared = prepare(start(model=f"{own}:net", data=f"{own}:data", **asked), 1)
    assert prepared.graph.output_shape == (7,)
    assert prepared.data.lines() == [
        "training: 64 samples in 3 classes",
        "the network has 7 outputs for 3 classes; the others are not used",
    ]
    assert prepare(start(model=f"{own}:fixed", data=f"{own}:data"), 1).graph.output_shape == (10,)
    with pytest.raises(UserError, match=r"own\.py:data has 12 classes; the model wants at most 10"):
        prepare(start(model=f"{own}:fixed", data=f"{own}:data", data_arguments={"kinds": 12}), 1)


def test_a_number_that_followed_the_data_holds_for_a_named_recipe_too(own, tmp_path):
    recipe = tmp_path / "mine.toml"
    asked = {
        "model": f"{own}:net",
        "data": f"{own}:data",
        "batch": 16,
        "steps": 3,
        "out": str(tmp_path / "run"),
    }
    recipe.write_text(new_run("digits", {"epochs": 0, **asked, "schedule.kind": "constant"}).recipe.to_toml())
    run(single_rank(), lambda: new_run(str(recipe), {"out": str(tmp_path / "run"), "checkpoint_steps": 1}))
    resumed = resumed_run(str(tmp_path / "run"), str(recipe), {"steps": 4})
    assert resumed.recipe.model_arguments == {"classes": 3}


def test_a_network_that_takes_classes_must_have_as_many_outputs(own):
    own.write_text(OWN.replace("Linear(classes)", "Linear(10)"))
    with pytest.raises(UserError, match=r"own\.py:net has 10 outputs for classes = 3; must have as many"):
        prepare(start(model=f"{own}:net", data=f"{own}:data"), 1)


def test_a_default_of_the_data_decides_where_the_network_follows(own):
    own.write_text(
        OWN.replace("def data(count=64, kinds=3)", "def data(count=64, classes=4)").replace(
            "% kinds", "% classes"
        )
    )
    assert prepare(start(model=f"{own}:net", data=f"{own}:data"), 1).graph.output_shape == (4,)
    assert prepare(start(model=f"{own}:fixed", data=f"{own}:data"), 1).data.train.classes == 10


def test_ranks_compare_the_users_code(own):
    first = facts_to_compare(prepare(start(model=f"{own}:net", data=f"{own}:data"), 1))
    own.write_text(OWN + "\n# edited\n")
    second = facts_to_compare(prepare(start(model=f"{own}:net", data=f"{own}:data"), 1))
    assert {name for name in first if first[name] != second[name]} == {"own code"}


def test_a_run_does_not_go_on_with_other_code(own, tmp_path):
    out = tmp_path / "run"
    trained(out, model=f"{own}:net", data=f"{own}:data", steps=3, batch=16, checkpoint_steps=1)
    with pytest.raises(UserError, match="the run is at step 3 of 3"):
        prepare(resumed_run(str(out), None, {}), 1)
    own.write_text(OWN + "\n# edited\n")
    with pytest.raises(UserError, match=r"resume: the code of .*own\.py:net and .*own\.py:data has changed"):
        prepare(resumed_run(str(out), None, {}), 1)


def test_a_test_set_that_has_changed_is_said_and_kept_in_the_history(tmp_path, capsys):
    for name, count in (("train/cat", 8), ("train/dog", 8), ("test/cat", 2), ("test/dog", 3)):
        for index in range(count):
            write_image(tmp_path / f"data/{name}/{index}.png", np.zeros((32, 32, 3), np.uint8))

    def going_on(steps):
        capsys.readouterr()
        results = run(single_rank(), lambda: resumed_run(str(tmp_path / "run"), None, {"steps": steps}))
        said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("test set: ")]
        return said, list(results["history"])

    run(
        single_rank(),
        lambda: start(
            model="cifar10", data=f"images:{tmp_path}/data", steps=1, out=str(tmp_path / "run"), leaves=4,
            **{"schedule.kind": "constant"},
        ),
    )  # fmt: skip
    assert going_on(2) == ([], [])
    (tmp_path / "data/test/dog/2.png").unlink()
    (line,), (change,) = going_on(3)
    assert (change["step"], change["what"]) == (2, "test set")
    assert "(5 samples) up to step 2, " in line
    assert "(4 samples) after it; evaluations before and after are of other samples" in line
    assert going_on(4) == ([], [change])
    assert prepare(resumed_run(str(tmp_path / "run"), None, {"steps": 9}), 1).notes == ()


def test_a_checkpoint_of_an_earlier_version_knows_no_test_set(tmp_path):
    folder = trained(tmp_path)
    saved = find_checkpoint(folder) / "state.json"
    state = json.loads(saved.read_text())
    assert state.pop("test_data").endswith("(360 samples)")
    saved.write_text(json.dumps(state))
    assert prepare(resumed_run(str(folder), None, {"steps": 9}), 1).start.state.history == ()


@pytest.mark.parametrize("split", ["", "train/"])
def test_a_run_is_not_written_among_the_classes_of_its_data(tmp_path, monkeypatch, split):
    data = tmp_path / "data"
    for name in ("cat", "dog"):
        for index in range(8):
            write_image(data / f"{split}{name}/{index}.png", np.zeros((32, 32, 3), np.uint8))
    (tmp_path / "link").symlink_to(data)
    fields = {"model": "cifar10", "data": f"images:{data}", "leaves": 4}
    for out in (data / split / "run", tmp_path / "link" / split / "deep/run"):
        with pytest.raises(UserError, match=rf"^out: {out} lies in the data, .*; give --out a folder "):
            prepare(start(out=str(out), **fields), 1)
    monkeypatch.chdir(data / split)
    with pytest.raises(UserError, match=r"^out: runs/ lies in the data"):
        prepare(start(**fields), 1)
    prepare(start(out=str(tmp_path / "data-run"), **fields), 1)
    if split:  # beside the training set it is passed over
        prepare(start(out=str(data / "run"), **fields), 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"class_weights": (1.0,) * 9},
            r"^class_weights: got 9 weights; must be one for each of 10 classes$",
        ),
        (
            {"sampling": (0.0,) * 10},
            r"^sampling: got \[0\.0, .*\]; must be above 0 for a class that has training",
        ),
    ],
)
def test_weights_that_do_not_suit_the_data_are_refused(changes, message):
    with pytest.raises(UserError, match=message):
        prepare(start(**changes), 1)


def test_ranks_compare_labels_where_weights_follow_from_them():
    plain = facts_to_compare(prepare(start(), 1))["training labels"]
    weighed = facts_to_compare(prepare(start(sampling="balanced"), 1))["training labels"]
    assert plain == "" != weighed
