"""A network in use as other programs are told of it."""

import json
from collections.abc import Callable, Mapping

from engine.config.recipe import Recipe
from engine.data.readers.normalise import Normalisation
from engine.formats.trained import Scaling, Trained
from engine.graph import Graph
from engine.run.checkpoint import LOCKSTEP, explanation
from engine.run.state import State
from engine.training.hashes import sha256_of
from layers.layer import Array
from layers.precision import stated


def trained_of(
    state: State,
    recipe: Recipe,
    network: Graph,
    tensors: Mapping[str, Array],
    normalisation: Normalisation | None,
    *,
    logits: Callable[[Array], Array],
) -> Trained:
    """Return what of a checkpoint goes into files of other programs."""
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
        **stated(recipe.precision),
    }
    scaling = None
    if normalisation is not None:
        written = normalisation.to_json()
        scaling = Scaling(tuple(written["scale"]), tuple(written["shift"]))
    explained = {LOCKSTEP: explanation(state)} if state.model else {}  # none in earlier versions
    return Trained(network, tensors, logits, about, scaling, explained)
