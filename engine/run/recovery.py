"""A run that has lost ranks, on those that are left: from copies in memory, or else from the disk."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from comm.losses import RankLostError
from comm.tree import Tree
from engine.graph.parallel.plan import AUTO, DATA, Plan
from engine.host.affinity import Cores, find_cores
from engine.run.agreement import agreed
from engine.run.beginning import Places, begin, make_places
from engine.run.kept_checkpoints import FOLDER, checkpoints_of, step_of
from engine.run.prepare import Prepared
from engine.run.run_folder import METRICS, RECIPE, rewind
from engine.run.start import Start, resumed_run
from engine.run.state import State
from engine.run.survival import Survival
from engine.training.buddies import Recovered


@dataclass(frozen=True)
class Begun:
    """A run that has begun, on one of its ranks."""

    prepared: Prepared
    cores: Cores
    places: Places
    folder: Path
    """Of the run, on the host of rank 0; all ranks know it."""
    plan: Plan
    """With which it began; the ranks that are left may not fit it."""
    is_new: bool
    """It did not go on from a checkpoint."""


def begin_anew(survival: Survival, resolve: Callable[[], Start]) -> Begun:
    """Begin a run (collective); see `engine.run.beginning.begin`.

    Where ranks have been lost, those that are left may not fit the plan that was asked for.
    """
    world = survival.world
    fitting = partial(_fitting, world.size, resolve) if survival.losses else resolve
    prepared, cores, places = begin(world, fitting)
    try:
        survival.begin()
        folder = world.gather_objects(places.folder)[0]
    except RankLostError:  # the others may not know that it has begun
        places.undo()
        raise
    return Begun(prepared, cores, places, folder, prepared.plan, prepared.start.state is None)


def _fitting(ranks: int, resolve: Callable[[], Start]) -> Start:
    """Return what the user asked for, without a plan of which that many ranks are no whole groups."""
    start = resolve()
    plan = start.recipe.plan
    if plan == AUTO or ranks % Plan.parse(plan).parts == 0:
        return start
    return replace(start, recipe=replace(start.recipe, plan=DATA))


def go_on(
    survival: Survival, begun: Begun, recovered: Recovered | None, resolve: Callable[[], Start]
) -> Begun:
    """Let the ranks that are left go on with a run (collective).

    Parameters
    ----------
    recovered
        What they have in common; None: what is on the disk.
    resolve
        Returns what the user asked for, in case there is nothing.

    Raises
    ------
    UserError
        On all ranks: the run's folder cannot be used from where rank 0 is now.
    """
    if recovered is None:
        return _from_disk(survival, begun, resolve)
    world = survival.world
    prepared = _prepared(begun, recovered, world.size)
    places = agreed(world, lambda: _places(begun, prepared.start) if world.rank == 0 else Places())
    saved = world.gather_objects(_newest(places))[0]
    cores = find_cores(world)
    survival.say(f"step {recovered.step}")
    return replace(begun, prepared=replace(prepared, saved_step=saved), cores=cores, places=places)


def _prepared(begun: Begun, recovered: Recovered, ranks: int) -> Prepared:
    """Return what the ranks that are left train: the same from another step, on fewer of them."""
    prepared, kept = begun.prepared, recovered.progress
    start = prepared.start
    state = State(
        recovered.step,
        start.recipe.to_toml(),
        prepared.data.identity,
        prepared.code,
        started_in=start.started_in,
        epoch_loss=kept.epoch_loss,
        init=prepared.init,
        history=start.state.history if start.state else (),
        best=kept.best,
    )
    return replace(
        prepared,
        start=replace(start, state=state, checkpoint=None, run=begun.folder, asked=None),
        tree=Tree.of(ranks, prepared.tree.leaves),
        plan=begun.plan if ranks % begun.plan.parts == 0 else Plan(),
        tensors=recovered.tensors,
        record=kept.record,
    )


def _places(begun: Begun, start: Start) -> Places:
    """Return where rank 0 writes from now on; another one may have written before."""
    assert start.state is not None
    if not start.has_folder:
        return Places()
    if begun.places.lock is not None:
        rewind(begun.folder, start.state.step)
        return begun.places
    begun.folder.mkdir(parents=True, exist_ok=True)
    return make_places(start)


def _newest(places: Places) -> int:
    """Return the step of the newest checkpoint on the disk; 0: there is none."""
    found = checkpoints_of(places.folder) if places.folder is not None else []
    return step_of(found[-1]) if found else 0


def _from_disk(survival: Survival, begun: Begun, resolve: Callable[[], Start]) -> Begun:
    """Go on from the run's newest checkpoint, or begin it again where there is none (collective)."""
    world, folder = survival.world, begun.folder
    begun.places.release()
    has_saved: bool = world.gather_objects(bool(checkpoints_of(folder)))[0]
    if has_saved:
        survival.say("the newest checkpoint")
        return begin_anew(survival, lambda: resumed_run(str(folder), None, {}))
    if world.rank == 0 and begun.is_new:
        rewind(folder, 0)
        for name in (METRICS, RECIPE):
            (folder / name).unlink(missing_ok=True)
        with suppress(OSError):
            (folder / FOLDER).rmdir()
    world.gather_objects(None)  # until it is done
    survival.say("where the run began")
    return begin_anew(survival, partial(_again_in, folder, resolve))


def _again_in(folder: Path, resolve: Callable[[], Start]) -> Start:
    """Return what the user asked for, in the folder where it began."""
    start = resolve()
    if start.run is not None or not start.has_folder:
        return start
    return replace(start, recipe=replace(start.recipe, out=str(folder)))
