"""What every rank reads and checks before the first step, and what must be equal on all of them."""

from dataclasses import dataclass, replace
from typing import Any

from comm.tree import Tree
from engine.config.errors import UserError
from engine.config.paths import expand, function_in_file
from engine.config.recipe import Recipe, override
from engine.config.user_code import code_digest
from engine.data.augment import Augment
from engine.data.dataset import DataSource, digest
from engine.data.labels import labels_digest, loss_weights
from engine.data.mix import Mix
from engine.data.readers.image_folder import ImageFolder
from engine.data.readers.recordings import Recordings
from engine.data.sampler import Sampler
from engine.data.sources import open_data
from engine.data.weighted_sampling import weighted_sampling
from engine.graph import Graph
from engine.graph.parallel.plan import Plan
from engine.graph.passes.convolution import set_convolutions
from engine.graph.passes.decay import check_exempt
from engine.graph.passes.freeze import check_frozen
from engine.graph.passes.norm_groups import check_norm_groups, grouped
from engine.graph.passes.patterns import first_matching
from engine.graph.passes.precision import set_precision
from engine.graph.passes.rates import check_rates
from engine.models import MODELS, build_model, follows_classes
from engine.planner.auto import resolve
from engine.planner.plans import Training
from engine.run.best import Comparison
from engine.run.checkpoint import read_tensors
from engine.run.history import TEST_SET, changed, said
from engine.run.initial_weights import InitialWeights, initial_weights
from engine.run.resumed_recipe import anchored
from engine.run.start import Start
from engine.run.state import State
from engine.training.held import Held
from engine.training.microbatches import check_microbatches
from engine.training.rank_settings import form_of
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
    code: str
    """Hash of the user's own files; empty without any."""
    model_code: str
    """Hash of the model's alone."""
    tensors: dict[str, Array | Held]
    """Weights, state and moments of the checkpoint; empty without one."""
    initial: InitialWeights | None = None
    """With which a new run begins; None where all are drawn."""
    survives: bool = False
    """Whether ranks can go on when others die, for which copies are kept."""
    saved_step: int | None = None
    """Of the newest checkpoint on the disk, where the run goes on from memory; 0: there is none."""
    record: dict[str, Any] | None = None
    """Of the step that it goes on from, which the rank that would have logged it may have died with."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user is told of the weights that the run begins with, and of what it goes on with."""
        if self.start.state is not None:
            return tuple(said(self.start.state))
        return tuple(self.initial.lines()) if self.initial else ()

    @property
    def init(self) -> str:
        """Hash of the weights that the run begins with, or began with; empty where all were drawn."""
        if self.start.state is not None:
            return self.start.state.init
        return self.initial.sha256 if self.initial else ""


def prepare(start: Start, ranks: int) -> Prepared:
    """Read and check what a start names, for a number of ranks.

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
    placed = anchored(recipe, start.started_in)
    graph, data, placed = _network_and_data(placed, is_new=start.state is None)
    recipe = replace(recipe, model_arguments=placed.model_arguments)
    start = replace(start, recipe=recipe)
    check_norm_groups(graph, recipe.leaves)
    graph = grouped(graph, recipe.norm_groups, recipe.batch, recipe.leaves)
    configured = set_precision(graph, recipe.precision)
    configured = set_convolutions(configured, recipe.conv, recipe.conv_feature_leaves)
    check_microbatches(recipe.accumulate, tree, configured)
    check_frozen(graph, recipe.freeze)
    plan = resolve(
        recipe.plan,
        configured,
        ranks=ranks,
        batch=recipe.batch,
        cluster=placed.cluster,
        training=Training(tuple(recipe.freeze), recipe.accumulate, form_of(recipe)),
    )
    check_rates(graph, recipe.schedule.rates)
    check_exempt(graph, recipe.optimizer.decay_exempt)
    _check_comparable(recipe, data)
    _check_apart(start, data)
    sampler = Sampler(len(data.train), recipe.batch, recipe.seed)
    loss_weights(recipe.class_weights, data.train)
    weighted_sampling(recipe.sampling, data.train)
    Augment.parse(recipe.augment).check(data.train.sample_shape)
    Mix(recipe.mixup, recipe.cutmix).check(data.train.sample_shape)
    code, model_code = code_digest((placed.model, placed.data)), code_digest((placed.model,))
    if start.state is None or start.checkpoint is None:
        initial = _initial(placed, graph, data) if placed.init else None
        return Prepared(start, graph, data, tree, plan, code, model_code, {}, initial)
    _check_resumed(start.state, data, recipe, code)
    _check_length(start, start.state, recipe.total_steps(sampler.steps_per_epoch))
    if not start.lacks_results:
        _check_not_over(start.state, recipe)
    tensors = dict[str, Array | Held](read_tensors(start.checkpoint, graph))
    start = replace(start, state=_with_test_set(start.state, data))
    return Prepared(start, graph, data, tree, plan, code, model_code, tensors)


def _network_and_data(recipe: Recipe, *, is_new: bool) -> tuple[Graph, DataSource, Recipe]:
    """Return the network and the data, and the recipe with the number of classes that follows from the data.

    A run that goes on has that number in its recipe already, or is older and has the network's own.
    """
    graph = build_model(recipe.model, recipe.model_arguments)
    follows = is_new and follows_classes(recipe.model, recipe.model_arguments)
    (outputs,) = graph.output_shape
    data = open_data(
        recipe.data,
        graph.input_shape,
        outputs,
        recipe.seed,
        arguments=recipe.data_arguments,
        any_classes=follows,
        centre_crop=recipe.centre_crop,
    )
    classes = data.train.classes
    if follows and classes != outputs:
        recipe = override(recipe, {"model_arguments.classes": classes})
        graph = build_model(recipe.model, recipe.model_arguments)
        if graph.output_shape != (classes,):
            raise UserError(
                f"model: {recipe.model} has {graph.output_shape[0]} outputs for classes = {classes}; must "
                "have as many, or no parameter of that name"
            )
        return graph, _noted(data, f"the network follows the data: {classes} outputs, not {outputs}"), recipe
    if classes != outputs:
        data = _noted(
            data, f"the network has {outputs} outputs for {classes} classes; the others are not used"
        )
    return graph, data, recipe


def _noted(data: DataSource, note: str) -> DataSource:
    """Return the data with another note to the user."""
    return replace(data, notes=(*data.notes, note))


def facts_to_compare(prepared: Prepared) -> dict[str, str]:
    """Return what must be equal on all ranks, so that they take the same steps and compute the same bits."""
    recipe, data, state = prepared.start.recipe, prepared.data, prepared.start.state
    fields = {name: str(value) for name, value in vars(recipe).items() if name not in Recipe.MAY_DIFFER}
    return {
        **fields,
        "plan": str(prepared.plan),
        "own code": prepared.code or "none",
        "data": recipe.data_kind,
        "training samples": str(len(data.train)),
        "training set": data.train.fingerprint(),
        "training labels": labels_digest(data.train, recipe.sampling, recipe.class_weights),
        "test samples": str(len(data.test) if data.test else 0),
        "test set": data.test.fingerprint() if data.test else "none",
        "initial weights": prepared.init or "none",
        "checkpoint": f"step {state.step}" if state else "none",
        "state of the checkpoint": digest(repr(state)),
        **fingerprint(),
    }


def _check_resumed(state: State, data: DataSource, recipe: Recipe, code: str) -> None:
    if state.data != data.identity:
        raise UserError(
            f"resume: {recipe.data} has other samples ({data.identity}) than the checkpoint's run had "
            f"({state.data}); must be the same"
        )
    if state.code != code:
        own = " and ".join(filter(function_in_file, (recipe.model, recipe.data)))
        raise UserError(
            f"resume: the code of {own} has changed since the checkpoint (hash {state.code or 'none'}, "
            f"now {code or 'none'}); must be the same"
        )


def _with_test_set(state: State, data: DataSource) -> State:
    """Return the state with another test set in its history; checkpoints of earlier versions name none."""
    if not state.test_data:
        return state
    return changed(state, TEST_SET, state.test_data, data.test_identity)


def _initial(recipe: Recipe, graph: Graph, data: DataSource) -> InitialWeights:
    found = initial_weights(recipe.init, graph, data.class_names)
    frozen = first_matching(graph, recipe.freeze)
    drawn = dict.fromkeys(name.rpartition(".")[0] for name in found.drawn)
    return replace(found, random=tuple(name for name in drawn if name in frozen))


def _check_comparable(recipe: Recipe, data: DataSource) -> None:
    if recipe.metric and data.test is None:
        field, off = ("keep_best", "off") if recipe.keeps_best else ("stop_after", "0")
        raise UserError(
            f"{field}: {recipe.data} has no test samples to choose a checkpoint by; must be {off}"
        )


def _check_apart(start: Start, data: DataSource) -> None:
    """Refuse a new run's folder among class folders: the next run would take it for a class."""
    if start.run is not None or not start.has_folder:
        return
    out = start.place(expand(start.recipe.out or "runs", "out")).resolve()
    for split in (data.train, data.test):
        if not isinstance(split, ImageFolder | Recordings) or split.name == "csv":
            continue  # of a list, a folder is no class
        if out.is_relative_to(split.root.resolve()):
            raise UserError(
                f"out: {start.recipe.out or 'runs/'} lies in the data, {split.root}, where every folder is a "
                "class; give --out a folder elsewhere"
            )


def _check_length(start: Start, state: State, total_steps: int) -> None:
    if state.step > total_steps or (state.step == total_steps and not start.lacks_results):
        raise UserError(
            f"resume: the run is at step {state.step} of {total_steps}: give more --epochs or --steps"
        )


def _check_not_over(state: State, recipe: Recipe) -> None:
    """Refuse to go on with a run that has stopped early: it would take no step, and lose its results."""
    comparison = Comparison(recipe.metric, recipe.stop_after)
    comparison.begin(state.best, None)
    if comparison.is_enough:
        raise UserError(
            f"resume: the run has stopped early, at step {state.step}, after {recipe.stop_after} evaluations "
            "without a better one: give a larger --stop-after, or 0"
        )
