"""A new run from weights that are there: what is taken, left, drawn, and what does not fit."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from comm.threads import run_ranks, single_rank
from engine.config.errors import UserError
from engine.config.recipe import Recipe
from engine.graph import GraphBuilder
from engine.run.checkpoint import read_state, save_checkpoint
from engine.run.finding import find_checkpoint
from engine.run.initial_weights import heads_of, initial_weights
from engine.run.launch import run
from engine.run.prepare import facts_to_compare, prepare
from engine.run.start import new_run, resumed_run
from engine.run.state import State
from layers.add import Add
from layers.concat import Concat
from layers.linear import Linear
from layers.relu import ReLU
from tests.engine.graphs import perceptron, residual
from tests.engine.run.test_launch import SHORT, images, resumed, trained
from tests.test_new_layer import network as with_state

SHAPES = {"fc1": (20, 12), "fc2": (17, 20), "fc3": (5, 17)}


def weights(**other):
    """Return weights of the perceptron, some of other shapes or none."""
    found = {}
    for number, (node, shape) in enumerate((SHAPES | other).items()):
        if shape is not None:
            found[f"{node}.weight"] = np.full(shape, number, np.float32)
            found[f"{node}.bias"] = np.full(shape[:1], -number, np.float32)
    return found


def chosen(tmp_path, tensors, graph=None):
    save_file(tensors, tmp_path / "some.safetensors")
    return initial_weights(str(tmp_path / "some.safetensors"), graph or perceptron())


def test_what_fits_is_taken_what_is_missing_drawn_and_what_is_left_named(tmp_path):
    begin = chosen(tmp_path, weights(fc2=None, fc9=(2, 3)))
    assert set(begin.taken) == {"fc1.weight", "fc1.bias", "fc3.weight", "fc3.bias"}
    assert begin.drawn == ("fc2.weight", "fc2.bias")
    assert set(begin.left) == {"fc9.weight", "fc9.bias"}
    source = tmp_path / "some.safetensors"
    assert begin.lines() == [
        f"init: 4 tensors taken from {source}: fc1.weight, fc1.bias, fc3.weight and 1 other",
        "init: 2 tensors drawn anew: fc2.weight, fc2.bias",
        "init: 2 tensors left there: fc9.bias, fc9.weight",
    ]


@pytest.mark.parametrize("shape", [(7, 17), (5, 9)])
def test_a_head_of_another_size_is_drawn_anew_as_a_whole(tmp_path, shape):
    begin = chosen(tmp_path, weights(fc3=shape))
    assert begin.drawn == ("fc3.weight", "fc3.bias")
    assert begin.left == ()
    assert len(begin.taken) == 4


def test_the_head_is_what_has_no_other_weights_behind_it():
    assert heads_of(perceptron()) == {"fc3"}
    assert heads_of(residual()) == {"fc5"}
    assert heads_of(with_state()) == {"fc4"}
    net = GraphBuilder((6,))
    net.add("base", Linear(4))
    net.add("left", Linear(3), "base")
    net.add("right", Linear(3), "base")
    net.add("far", Linear(6), "right")
    net.add("both", Concat(), "left", "right")
    net.add("sum", Add(), "both", "far")
    net.add("relu", ReLU())
    net.add("twice", Add(), "relu", "sum")
    assert heads_of(net.graph()) == {"left", "right", "far"}


def spoilt(tensors):
    tensors["fc1.bias"][3] = np.nan
    return tensors


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        (
            weights(fc2=(18, 20)),
            r"fc2\.weight is \[18, 20\], the network wants \[17, 20\]; only the last layer with weights may",
        ),
        (weights(fc1=None, fc2=None, fc3=None, other=(2, 2)),
         r"nothing fits: it holds other\.bias, other\.weight; the network has fc1\.weight, fc1\.bias, fc2"),
        (weights(fc1=None, fc2=None, fc3=(9, 17)), r"nothing fits: it holds fc3\.bias, fc3\.weight; the net"),
        (spoilt(weights()), r"fc1\.bias is not finite$"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_one_line(tmp_path, tensors, message):
    with pytest.raises(UserError, match=rf"^init: {tmp_path}/some\.safetensors: {message}") as refused:
        chosen(tmp_path, tensors)
    assert "\n" not in str(refused.value)


def test_a_place_without_weights_is_refused_by_the_option(tmp_path):
    for path, message in {
        tmp_path: "holds no checkpoint; give a run's folder or one of its checkpoints",
        tmp_path / "none": "holds no checkpoint: there is no such folder",
        "~nosuchuser/x": "there is no such home folder",
    }.items():
        with pytest.raises(UserError, match=rf"^init: .*{message}"):
            initial_weights(str(path), perceptron())


def test_a_damaged_checkpoint_is_not_begun_with(tmp_path):
    path = find_checkpoint(trained(tmp_path / "run")) / "model.safetensors"
    (path.parent / "optimizer.safetensors").unlink()  # which nobody asks for
    trained(tmp_path / "whole", init=str(tmp_path / "run"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"model\.safetensors: is damaged"):
        trained(tmp_path / "new", init=str(tmp_path / "run"))


def results(folder):
    return json.loads((folder / "run.json").read_text())


def test_a_run_at_rate_zero_ends_with_the_weights_that_it_began_with(tmp_path, capsys):
    first = trained(tmp_path / "first")
    checkpoint = find_checkpoint(first)
    for number, source in enumerate((first, checkpoint, checkpoint / "model.safetensors")):
        again = trained(tmp_path / str(number), init=str(source), **{"schedule.rate": 0.0, "seed": 9})
        assert results(again)["weights_sha256"] == results(first)["weights_sha256"]
        assert results(again)["init"] == str(source)
        assert f"init: 10 tensors taken from {source}: conv1.weight, " in capsys.readouterr().err
    assert results(first)["init_sha256"] == ""
    assert len({results(tmp_path / str(number))["init_sha256"] for number in range(3)}) == 1


def test_other_classes_get_a_head_of_their_own(tmp_path, capsys):
    photos = images(tmp_path / "photos", 8, splits=("train", "test"))
    first = trained(tmp_path / "first", model="cifar10", data="synthetic", batch=16, steps=1)
    trained(
        tmp_path / "second", model="cifar10", data=f"images:{photos}", batch=16, init=str(first),
        freeze=("conv*",), **{"schedule.rates": {"fc*": 10.0}},
    )  # fmt: skip
    said = capsys.readouterr().err
    assert "the network follows the data: 2 outputs, not 10" in said
    assert "init: 2 tensors drawn anew: fc4.weight, fc4.bias" in said
    assert "frozen: conv1_1, conv1_2, conv2_1, " in said
    before, after = (
        load_file(find_checkpoint(tmp_path / name) / "model.safetensors") for name in ("first", "second")
    )
    assert after["fc4.weight"].shape[0] == 2
    assert (after["conv1_1.weight"] == before["conv1_1.weight"]).all()


def test_a_layer_that_is_frozen_and_drawn_is_said(tmp_path, capsys):
    whole = load_file(find_checkpoint(trained(tmp_path / "first")) / "model.safetensors")
    less = {name: array for name, array in whole.items() if "conv2" not in name}
    save_file(less, tmp_path / "less.safetensors")
    for freeze, is_said in (("conv1", False), ("conv*", True)):
        capsys.readouterr()
        trained(tmp_path / str(is_said), init=str(tmp_path / "less.safetensors"), freeze=(freeze,))
        said = capsys.readouterr().err.splitlines()
        assert ("warning: frozen, but drawn anew, and never trained: conv2" in said) is is_said


@pytest.mark.parametrize("ranks", [2, 3])
def test_the_bits_are_the_same_on_any_ranks(tmp_path, ranks):
    first = trained(tmp_path / "first", seed=4)
    changes = {**SHORT, "init": str(first), "freeze": ("conv1",), "out": str(tmp_path / "many")}
    run_ranks(ranks, lambda world: run(world, lambda: new_run("digits", changes)))
    run(single_rank(), lambda: new_run("digits", {**changes, "out": str(tmp_path / "one")}))
    many, one = results(tmp_path / "many"), results(tmp_path / "one")
    for name in ("weights_sha256", "init_sha256", "final_loss", "test_accuracy"):
        assert many[name] == one[name]


def test_ranks_that_begin_with_other_weights_are_refused_and_the_place_may_differ(tmp_path):
    runs = [trained(tmp_path / str(seed), seed=seed) for seed in (1, 2)]

    def both(places):
        run_ranks(
            2,
            lambda world: run(
                world,
                lambda: new_run(
                    "digits", {**SHORT, "init": str(places[world.rank]), "out": str(tmp_path / "new")}
                ),
            ),
        )

    with pytest.raises(UserError, match=r"^rank 1 has initial weights \w{64}, rank 0 has \w{64}; must be th"):
        both(runs)
    both([runs[0], find_checkpoint(runs[0]) / "model.safetensors"])


def test_going_on_reads_nothing_again_and_knows_the_beginning(tmp_path):
    first = trained(tmp_path / "first", seed=4)
    whole = trained(tmp_path / "whole", init=str(first), steps=4)
    part = trained(tmp_path / "part", init=str(first), steps=2)
    first.rename(tmp_path / "gone")
    start = resumed_run(str(part), None, {"steps": 4})
    assert facts_to_compare(prepare(start, 1))["initial weights"] == results(whole)["init_sha256"]
    assert resumed(part, steps=4)["weights_sha256"] == results(whole)["weights_sha256"]
    assert results(part)["init_sha256"] == results(whole)["init_sha256"]
    assert read_state(find_checkpoint(part)).init == results(whole)["init_sha256"]
    with pytest.raises(UserError, match=r"^resume: init was .*first in the .* run and is .*gone now"):
        resumed(part, steps=5, init=str(tmp_path / "gone"))


def test_a_recipe_without_it_goes_on_too(tmp_path):
    part = trained(tmp_path / "part", init=str(trained(tmp_path / "first", seed=4)))
    lines = (part / "recipe.toml").read_text().splitlines()
    (part / "recipe.toml").write_text("\n".join(line for line in lines if not line.startswith("init")))
    resumed(part, steps=3)
    assert "first" in (part / "recipe.toml").read_text()


def test_what_is_frozen_is_part_of_the_bits(tmp_path):
    part = trained(tmp_path, freeze=("conv1", "conv2"))
    with pytest.raises(UserError, match=r"^resume: freeze was \[\"conv1\", \"conv2\"\] .* and is \[\] now"):
        resumed(part, steps=3, freeze=())
    with pytest.raises(UserError, match=r"^resume: schedule.rates was \[\] .* is \[\"fc5=2.0\"\] now"):
        resumed(part, steps=3, **{"schedule.rates": {"fc5": 2.0}})
    assert resumed(part, steps=3, freeze=["conv1", "conv2"])["frozen"] == ["conv1", "conv2"]


def test_the_order_of_rates_is_part_of_the_bits(tmp_path):
    rates = {"conv1": 0.5, "conv*": 0.1}
    part = trained(tmp_path, **{"schedule.rates": rates})
    with pytest.raises(UserError, match=r"^resume: schedule.rates was "):
        resumed(part, steps=3, **{"schedule.rates": dict(reversed(rates.items()))})
    assert resumed(part, steps=3, **{"schedule.rates": rates})["steps"] == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"freeze": ("conv9",)},
            r'^freeze: got "conv9", which fits no layer with weights; must be one of c',
        ),
        ({"freeze": ("*",)}, r"^freeze: got \*, which leaves no layer"),
        ({"freeze": "conv1"}, r"^freeze: got 'conv1'; must be a list, each a text"),
        (
            {"schedule.rates": {"fc4": 0.0}},
            r"^schedule\.rates\.fc4: got 0\.0; must be more than 0 and",
        ),
        ({"schedule.rates": {"fc9": 2}}, r'^schedule\.rates: got "fc9", which fits no layer with weights'),
        ({"schedule.rates": 2}, r"^schedule\.rates: got 2; must be a table of numbers"),
    ],
)
def test_what_fits_no_layer_is_refused_before_the_first_step(tmp_path, changes, message):
    with pytest.raises(UserError, match=message):
        trained(tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


def test_a_head_that_knows_other_classes_is_drawn_anew(tmp_path):
    graph, names = perceptron(), tuple("abcdefghijklmnopqrstuvwxyz")
    count = graph.output_shape[0]
    known, others = names[:count], names[1 : count + 1]
    state = State(1, Recipe().to_toml(), "samples", class_names=known)
    path = save_checkpoint(tmp_path, state, weights(), {})
    for classes, drawn in (
        (known, ()),
        (others, ("fc3.weight", "fc3.bias")),
        ((), ()),
        (tuple(map(str, range(count))), ()),  # which are no names
    ):
        begin = initial_weights(str(path), graph, classes)
        assert (begin.drawn, set(begin.taken) & {"fc3.weight"}) == (drawn, set() if drawn else {"fc3.weight"})
