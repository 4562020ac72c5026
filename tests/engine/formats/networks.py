"""Networks with drawn weights, as they are handed on."""

from dataclasses import replace
from functools import partial

from engine.config.recipe import Recipe
from engine.export import build_alone, logits_of
from engine.formats.onnx_check import SAMPLES
from engine.formats.trained import Preprocessing, Trained
from engine.graph import Graph, GraphBuilder
from layers.flatten import Flatten
from layers.linear import Linear
from layers.relu import ReLU
from tests.toy_layer import Scale

PIXELS = Preprocessing((0.01, 0.02, 0.03), (-1.0, -2.0, -3.0))


def drawn(network: Graph, *, seed: int = 1, preprocessing: Preprocessing | None = None) -> Trained:
    """Return a network with the initial weights of a seed, and biases that are not zero."""
    rank = build_alone(network, Recipe(), SAMPLES, threads=1)
    rank.initialise(seed)
    tensors = rank.parameters.gather_weights() | rank.states.tensors()
    for name, tensor in tensors.items():
        if name.endswith(".bias"):
            tensor[...] += 0.1
    momentum = {f"momentum.{name}": 0 * tensor for name, tensor in rank.parameters.gather_weights().items()}
    rank.parameters.restore(tensors | momentum)
    return Trained(network, tensors, partial(logits_of, rank), {"model": "drawn"}, preprocessing)


def changed(trained: Trained, name: str) -> Trained:
    """Return a network whose tensor of a name is another one, while its logits are those of before."""
    return replace(trained, tensors={**trained.tensors, name: trained.tensors[name] * 1.01})


def with_state() -> Graph:
    """Return a network with a layer of the user's, which keeps a state."""
    net = GraphBuilder((5, 4, 4))
    net.add("scale1", Scale())
    net.add("relu1", ReLU())
    net.add("flatten", Flatten())
    net.add("fc2", Linear(3, gain=1.0))
    return net.graph()
