"""Networks with drawn weights, as if they had been trained."""

from pathlib import Path

import numpy as np

from engine.config.recipe import Recipe
from engine.graph import Graph
from engine.run.state import State
from engine.trained.model import Model
from engine.training.parameters import Parameters
from layers.layer import Array


def drawn_model(network: Graph, recipe: Recipe, *, batch: int, threads: int = 1) -> Model:
    """Return a network with the initial weights of the recipe's seed."""
    tensors: dict[str, Array] = {}
    for node in network:
        inputs = network.input_shapes(node)
        parameters = Parameters(node.name, node.layer.parameters(*inputs), None)
        parameters.initialise(recipe.seed, {})
        tensors |= parameters.gather_weights()
        for name, state in node.layer.state(*inputs).items():
            tensors[f"{node.name}.{name}"] = np.full(state.shape, state.initial, np.float32)
    return Model(Path(), State(0, recipe.to_toml(), ""), recipe, network, tensors, batch, threads)
