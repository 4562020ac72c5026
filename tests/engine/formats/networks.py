"""Networks with drawn weights, as they are handed on."""

from dataclasses import replace

from bench.drawn import drawn_model
from engine.config.recipe import Recipe
from engine.formats.onnx_check import SAMPLES
from engine.formats.trained import Scaling, Trained
from engine.graph import Graph, GraphBuilder
from layers.flatten import Flatten
from layers.linear import Linear
from layers.relu import ReLU
from tests.toy_layer import Scale

PIXELS = Scaling((0.01, 0.02, 0.03), (-1.0, -2.0, -3.0))


def drawn(network: Graph, *, seed: int = 1, preprocessing: Scaling | None = None) -> Trained:
    """Return a network with the initial weights of a seed, but for vectors: biases, scales, statistics."""
    model = drawn_model(network, Recipe(seed=seed), batch=SAMPLES)
    for tensor in model.tensors.values():
        if tensor.ndim == 1:  # a scale may begin at zero
            tensor[...] += 0.1
    return Trained(network, model.tensors, model, {"model": "drawn"}, preprocessing)


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
