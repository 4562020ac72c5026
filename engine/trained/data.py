"""The data that a trained network is evaluated on, with labels that are its outputs."""

from collections.abc import Sequence
from dataclasses import dataclass

from engine.config.errors import UserError
from engine.config.paths import function_in_file
from engine.config.recipe import Recipe
from engine.config.wording import one_of
from engine.data.dataset import Dataset, DataSource
from engine.data.sources import check_fit, open_data, spec_of
from engine.graph import Graph
from engine.run.resumed_recipe import placed_text
from engine.run.state import State
from engine.trained.classes import for_network

TRAIN, TEST = "train", "test"

Data = str | Dataset | DataSource | None
"""As the user writes it, or made in Python; None: what the network was trained with."""


@dataclass(frozen=True)
class Opened:
    """A data set to evaluate on, with labels that are the network's outputs."""

    dataset: Dataset
    name: str
    split: str
    """TRAIN or TEST; empty where other data than the training's has no splits."""


def open_for(network: Graph, recipe: Recipe, state: State, data: Data, split: str) -> Opened:
    """Open a split of a data set for a network that was trained by a recipe.

    Parameters
    ----------
    split
        TRAIN or TEST; empty: the test samples where there are any.

    Raises
    ------
    UserError
        The data cannot be read, does not fit the network, or has a class that the network does not know.
    """
    check_choice("split", split, ("", TRAIN, TEST))
    name, source = _source(network, recipe, state, data)
    if split == TEST and source.test is None:
        raise UserError(f"split: {name} has no test samples; must be {TRAIN}")
    is_training = split == TRAIN or source.test is None
    chosen = source.train if is_training or source.test is None else source.test
    (outputs,) = network.output_shape
    labelled = for_network(chosen, source.train.class_names, state.class_names, outputs, where=name)
    is_whole = source.test is None and data is not None and not split
    return Opened(labelled, name, "" if is_whole else TRAIN if is_training else TEST)


def check_choice(name: str, got: str, allowed: Sequence[str]) -> None:
    """Raise UserError unless `got` is one of the choices."""
    if got not in allowed:
        raise UserError(f'{name}: got "{got}"; {one_of(filter(None, allowed))}')


def _source(network: Graph, recipe: Recipe, state: State, data: Data) -> tuple[str, DataSource]:
    """Return the data's name and its splits, which fit the network's input."""
    if isinstance(data, Dataset):
        data = DataSource(data, None)
    if isinstance(data, DataSource):
        check_fit(data.train.name, data, network.input_shape, None)
        return data.train.name, data
    if data is not None and not isinstance(data, str):
        raise UserError(f"data: got {data!r}; must be a text, a Dataset or a DataSource")
    if data is None and not recipe.data:
        raise UserError("data: a file of weights does not say what it was trained on; give --data")
    spec = placed_text("data", recipe.data, state.started_in, what="data") if data is None else spec_of(data)
    source = open_data(
        spec,
        network.input_shape,
        network.output_shape[0],
        recipe.seed,
        arguments=recipe.data_arguments if spec == recipe.data or data is None else {},
        any_classes=function_in_file(spec) is None,
        least_classes=1,
        centre_crop=recipe.centre_crop,
    )
    return spec, source
