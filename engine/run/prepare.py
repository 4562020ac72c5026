"""What every rank reads and checks before the first step, and what must be equal on all of them."""

from dataclasses import dataclass

from comm.tree import Tree
from engine.config.errors import UserError
from engine.config.recipe import Recipe
from engine.data.augment import Augment
from engine.data.dataset import DataSource, digest
from engine.data.readers.image_file import decoder_version
from engine.data.sampler import Sampler
from engine.data.sources import open_data
from engine.graph import Graph
from engine.graph.parallel.plan import Plan
from engine.graph.passes.convolution import set_convolutions
from engine.models import MODELS
from engine.planner.auto import resolve
from engine.run.checkpoint import State, read_tensors
from engine.run.start import Start
from layers.kernels.jit import fingerprint
from layers.layer import Array


@dataclass(frozen=True)
class Prepared:
    """A start that has been found good, with what belongs to it."""

    start: Start
    graph: Graph
    data: DataSource
    tree: Tree
    plan: Plan
    tensors: dict[str, Array]
    """Weights and velocities of the checkpoint; empty without one."""


def prepare(start: Start, ranks: int) -> Prepared:
    """Read and check what a start names, for so many ranks.

    Raises
    ------
    UserError
        Whatever the user has to mend before a first step.
    """
    recipe = start.recipe
    recipe.check(MODELS)
    try:
        tree = Tree.of(ranks, recipe.leaves)
    except ValueError as error:
        raise UserError(str(error)) from error
    graph = MODELS[recipe.model]()
    cut = set_convolutions(graph, recipe.conv, recipe.conv_feature_leaves)
    plan = resolve(recipe.plan, cut, ranks=ranks, batch=recipe.batch, cluster=recipe.cluster)
    data = open_data(recipe.data, graph.input_shape, graph.output_shape[0], recipe.seed)
    sampler = Sampler(len(data.train), recipe.batch, recipe.seed)
    Augment.parse(recipe.augment).check(data.train.sample_shape)
    if start.state is None or start.checkpoint is None:
        return Prepared(start, graph, data, tree, plan, {})
    _check_resumed(start.state, data, recipe, recipe.total_steps(sampler.steps_per_epoch))
    return Prepared(start, graph, data, tree, plan, read_tensors(start.checkpoint, graph))


def common(prepared: Prepared) -> dict[str, str]:
    """Return what must be equal on all ranks, so that they take the same steps and compute the same bits."""
    recipe, data, state = prepared.start.recipe, prepared.data, prepared.start.state
    fields = {name: str(value) for name, value in vars(recipe).items() if name not in Recipe.MAY_DIFFER}
    return {
        **fields,
        "plan": str(prepared.plan),
        "data": recipe.data_kind,
        "training samples": str(len(data.train)),
        "training set": data.train.fingerprint(),
        "test samples": str(len(data.test) if data.test else 0),
        "test set": data.test.fingerprint() if data.test else "none",
        "image decoder": decoder_version() if recipe.data_kind == "images" else "none",
        "checkpoint": f"step {state.step}" if state else "none",
        "state of the checkpoint": digest(repr(state)),
        **fingerprint(),
    }


def _check_resumed(state: State, data: DataSource, recipe: Recipe, total_steps: int) -> None:
    if state.data != data.identity:
        raise UserError(
            f"resume: {recipe.data} has other samples ({data.identity}) than the checkpoint's run had "
            f"({state.data}); must be the same"
        )
    if state.step >= total_steps:
        raise UserError(
            f"resume: the run is at step {state.step} of {total_steps}: give more --epochs or --steps"
        )
