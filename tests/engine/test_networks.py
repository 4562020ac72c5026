"""The command that lists the networks that come along."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from engine.graph import Graph
from engine.models import MODELS, build_model
from engine.networks import Network, main
from layers.linear import Linear


def printed(capsys, *arguments):
    assert main(arguments) == 0
    return capsys.readouterr().out


def test_all_networks_are_listed_with_their_costs(capsys):
    head, *rows = printed(capsys).splitlines()
    assert head.split()[:3] == ["network", "input", "outputs"]
    assert [row.split()[0] for row in rows] == list(MODELS)
    (vgg,) = (" ".join(row.split()) for row in rows if row.startswith("vgg_a"))
    assert vgg.startswith("vgg_a 3 x 224 x 224 1,000 132,863,336 15.2 45.5 ")  # as published: 7.6 G additions


def test_the_json_says_the_same_and_a_network_has_its_layers(capsys):
    listed = json.loads(printed(capsys, "--json"))
    assert [each["name"] for each in listed] == list(MODELS)
    assert all("layers" not in each for each in listed)
    told = json.loads(printed(capsys, "digits", "--json"))
    layers = told.pop("layers")
    assert told == listed[0]
    assert [layer["name"] for layer in layers] == [node.name for node in MODELS["digits"]()]
    for name in ("parameters", "forward_flop", "step_flop"):
        assert sum(layer[name] for layer in layers) == told[name]


def test_a_network_is_a_table_of_its_layers(capsys):
    first, second, blank, head, *rows = printed(capsys, "cifar10").splitlines()
    assert first == "cifar10: reads 3 x 32 x 32, 10 outputs, 307,498 parameters"
    assert second.endswith(" MB a sample in training")
    assert blank == ""
    assert head.split()[0] == "layer"
    assert " ".join(rows[0].split()) == "conv1_1 Conv2d 32 x 32 x 32 896 1.77 3.54 0.131"


def test_arguments_and_networks_of_ones_own_are_taken(capsys, tmp_path):
    told = json.loads(printed(capsys, "digits", "--model-argument", "classes=3", "--json"))
    assert told["outputs"] == 3
    assert told["parameters"] == build_model("digits", {"classes": 3}).parameter_count()
    file = tmp_path / "mine.py"
    file.write_text(
        "from lockstep import GraphBuilder, Linear\n"
        "def net():\n    made = GraphBuilder((4,))\n    made.add('fc', Linear(2))\n    return made.graph()\n"
    )
    first, *_ = printed(capsys, f"{file}:net").splitlines()
    assert first.endswith("mine.py:net: reads 4, 2 outputs, 10 parameters")


def test_flop_of_a_step_leave_out_the_gradient_of_the_input():
    """Counted by hand: 2 * 4 * 6 and 2 * 6 * 3 a pass; the first layer makes no gradient of its input."""
    graph = build_model("digits")
    (first, *_), shape = graph.nodes, (4,)
    nodes = (
        replace(first, name="fc1", layer=Linear(6), inputs=("input",)),
        replace(first, name="fc2", layer=Linear(3), inputs=("fc1",)),
    )
    found = Network.of("two", Graph(shape, nodes))
    assert found.forward_flop == 48 + 36
    assert found.step_flop == 2 * 48 + 3 * 36
    values = 4 * 16 * 5  # x, and y and dy of both, in whole lanes
    assert values <= found.sample_bytes <= values + 5  # of 64 samples: arrays begin on a cache line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["vga_a"], 'error: model: got "vga_a" (did you mean "vgg_a"?); must be one of digits'),
        (["digits", "--model-argument", "classes=0"], "error: model: classes: got 0; must be a whole number"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(capsys, arguments, message):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    (line,) = err.splitlines()
    assert line.startswith(message)


def test_arguments_without_a_network_are_refused(capsys):
    with pytest.raises(SystemExit) as end:
        main(["--model-argument", "classes=3"])
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("error: --model-argument: is one of a network; name it")


def test_it_runs_as_the_module_of_the_models():
    command = [sys.executable, "-m", "engine.models", "mnist"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.startswith("mnist: reads 1 x 28 x 28, 10 outputs, ")
