"""From a checkpoint to a network in use."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from comm import terminal
from comm.communicator import Communicator
from comm.threads import single_rank
from engine.config.arguments import as_path, check_text, check_whole
from engine.config.errors import UserError
from engine.config.paths import expand, function_in_file, working_folder
from engine.config.recipe import MOST_THREADS, Recipe
from engine.config.user_code import code_digest
from engine.config.wording import counted
from engine.host.affinity import find_cores
from engine.models import MODELS, build_model
from engine.run.checkpoint import read_state, read_weights_and_state, saved_recipe
from engine.run.finding import better_than_newest
from engine.run.kept_checkpoints import STATE
from engine.run.resumed_recipe import anchored_text, placed_text
from engine.run.state import State
from engine.trained.batch_size import filling_batch
from engine.trained.model import BATCH, Model
from engine.trained.weights_file import read_about, read_named, read_weights
from layers.layer import Shape
from layers.precision import FP32

MOST_BATCH = 1 << 16


def load_model(
    checkpoint: str | Path,
    *,
    best: bool = False,
    model: str = "",
    batch: int = BATCH,
    threads: int = 0,
    world: Communicator | None = None,
    say: Callable[[str], None] = terminal.say,
) -> Model:
    """Return the trained network of a checkpoint, or of the newest one of a run's folder.

    Its optimizer.safetensors need not be there; its model.safetensors alone is enough, as are files of export
    and convert. These do not say all of the recipe: sums are those of a recipe with the usual fields.

    Parameters
    ----------
    best
        Of a run the best checkpoint, which it keeps if its recipe says so, and not the newest.
    model
        Where the user's file FILE.py:function lies now, if it has moved.
    batch
        Samples that go through the network at once; 0: as many as fill the kernels.
    threads
        Kernel threads; 0: as many as this process has cores, or its share of them.
    world
        All ranks that load it, each calling this (collective); by default this process alone.
    say
        Prints a warning, or a note.

    Raises
    ------
    UserError
        There is no checkpoint, it cannot be read, or it holds another network.
    """
    check_whole("batch", batch, 0, MOST_BATCH)
    check_whole("threads", threads, 0, MOST_THREADS)
    check_text("model", model)
    named = expand(str(as_path("checkpoint", checkpoint)), "checkpoint")
    threads = threads or find_cores(world or single_rank()).threads(beside=False)

    def read(folder: Path) -> Model:
        return _read(working_folder() / folder, model=model, batch=batch, threads=threads, say=say)

    if not best and (note := better_than_newest(named)):
        say(note)
    return read_named(named, read, best=best)


def _read(place: Path, *, model: str, batch: int, threads: int, say: Callable[[str], None]) -> Model:
    is_alone = place.is_file()
    state, recipe = read_about(place) if is_alone else _of_checkpoint(place)
    recipe.check(MODELS)
    code = model or placed_text("model", recipe.model, state.started_in, what="checkpoint")
    recipe = replace(recipe, model=anchored_text("model", code, working_folder()))
    network = build_model(recipe.model, recipe.model_arguments)
    if warning := _changed(recipe, state):
        say(f"warning: {warning}")
    if recipe.precision != FP32:
        say(f"precision: products of {recipe.precision}, as in its training")
    tensors = read_weights(place, network, state) if is_alone else read_weights_and_state(place, network)
    _check_input(place, state, network.input_shape)
    return Model(place, state, recipe, network, tensors, batch or filling_batch(network), threads)


def _of_checkpoint(folder: Path) -> tuple[State, Recipe]:
    state = read_state(folder)
    return state, saved_recipe(folder, state)


def _changed(recipe: Recipe, state: State) -> str:
    """Return what is to be said of a user's network file that is not the one of the training; else nothing.

    Its tensors fit, or there would be an error; what it computes with them may still be something else. In
    checkpoints of earlier versions the hash is one of the data's file too, if that is the user's.
    """
    known = state.model_code or ("" if function_in_file(recipe.data) else state.code)
    now = code_digest((recipe.model,))
    if not known or known == now:
        return ""
    return (
        f"model: {recipe.model} has changed since the checkpoint was written (hash {known}, now "
        f"{now or 'none'}): what it computes may not be what was trained"
    )


def _check_input(place: Path, state: State, shape: Shape) -> None:
    """Raise UserError where a checkpoint says that its data was of another shape than its network reads."""
    told, channels = state.preprocessing, len((state.normalisation or {}).get("scale", ()))
    if (told is not None and told.sample_shape != shape) or channels not in (0, 1, shape[0]):
        said = "nothing" if told is None else list(told.sample_shape)
        file = place / STATE if place.is_dir() else place
        raise UserError(
            f"{file}: says that samples are {said}, normalised in {counted(channels, 'channel')}; "
            f"the model reads {list(shape)}"
        )
