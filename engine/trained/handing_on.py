"""A network in use as other programs are told of it."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

from engine.config.recipe import Recipe
from engine.formats.trained import Preprocessing, Trained
from engine.graph import Graph
from engine.run.kept_checkpoints import STATE
from engine.run.state import State
from engine.training.hashes import sha256_of
from layers.layer import Array


def trained_of(
    checkpoint: Path,
    state: State,
    recipe: Recipe,
    network: Graph,
    tensors: Mapping[str, Array],
    *,
    logits: Callable[[Array], Array],
) -> Trained:
    """Return what of a checkpoint goes into files of other programs.

    Raises
    ------
    UserError
        It describes no sound normalisation.
    """
    weights = {
        f"{node.name}.{name}": tensors[f"{node.name}.{name}"]
        for node in network
        for name in node.layer.parameters(*network.input_shapes(node))
    }
    about = {
        "model": recipe.model,
        "model_arguments": json.dumps(recipe.model_arguments),
        "class_names": json.dumps(state.class_names),
        "step": str(state.step),
        "weights_sha256": state.weights_sha256 or sha256_of(weights),
    }
    preprocessing = Preprocessing.of_checkpoint(state.normalisation, checkpoint / STATE)
    return Trained(network, tensors, logits, about, preprocessing)
