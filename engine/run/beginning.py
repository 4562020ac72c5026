"""Everything before a first step: read and check on all ranks, agree, and make the run's folder."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from comm import terminal
from comm.communicator import Communicator
from comm.losses import RankLostError
from engine.config.errors import UserError
from engine.config.files import write_whole, writing
from engine.config.paths import expand
from engine.data.augment import Augment
from engine.data.check import check_share
from engine.data.readers.probe import COLOURS
from engine.host.affinity import Cores, find_cores
from engine.host.stop_signals import end_now, hold_wishes, is_asked_to_end
from engine.profile.trace_file import check_writable
from engine.run.agreement import agreed, check_equal
from engine.run.building import threads_of
from engine.run.decoders import check_decoders
from engine.run.finding import find_checkpoint
from engine.run.folder_lock import FolderLock, lock_folder
from engine.run.memory_check import check_needs, microbatches_that_fit, needs_of
from engine.run.prepare import Prepared, facts_to_compare, prepare
from engine.run.run_folder import RECIPE, new_folder, rewind
from engine.run.start import Start, followed
from engine.tracking import trackers
from layers.kernels.target import TARGET


@dataclass(frozen=True)
class Places:
    """Where a run is written; nowhere but on rank 0, and nowhere at all for a run without a folder."""

    folder: Path | None = None
    trace: Path | None = None
    lock: FolderLock | None = None
    undo: Callable[[], None] = lambda: None
    """Removes what was made for the run, if it does not begin."""
    warnings: Sequence[str] = ()
    """What was said of them, and of the machine."""

    def check(self) -> None:
        """Raise UserError where the folder is another run's by now."""
        if self.lock is not None:
            self.lock.check()

    def release(self) -> None:
        """Let other runs write there."""
        if self.lock is not None:
            self.lock.release()

    def complaints(self) -> list[str]:
        """Return what is wrong with them."""
        if self.lock is None or self.lock.held is not None:
            return []
        return [f"{self.folder}: its file system has no locks; no second run must write there"]


def begin(world: Communicator, resolve: Callable[[], Start]) -> tuple[Prepared, Cores, Places]:
    """Read, check and compare what all ranks were given, and make the run's folder on rank 0 (collective).

    Raises
    ------
    UserError
        On all ranks, with the same message: any rank's mistake in what was given.
    """
    prepared = replace(agreed(world, lambda: prepare(resolve(), world.size)), survives=world.survives)
    cores = find_cores(world)
    agreed(world, lambda: check_equal(world, facts_to_compare(prepared)))
    agreed(world, lambda: check_decoders(world, *prepared.data.splits(), also=_changes(prepared)))
    threads = threads_of(world, prepared.start.recipe, cores)
    agreed(world, lambda: _check_data(world, prepared, threads))  # long: a wish to end is granted at once
    hold_wishes()
    end_if_asked(world)
    needs = agreed(world, lambda: needs_of(prepared, world.rank, threads))
    close = agreed(
        world, lambda: check_needs(world, needs, partial(microbatches_that_fit, prepared, threads))
    )
    writes = world.rank == 0 and prepared.start.has_folder
    agreed(world, lambda: trackers.load(prepared.start.recipe.track if writes else ()))
    places = agreed(world, lambda: make_places(prepared.start) if writes else Places())
    complaints = [
        *prepared.start.warnings,
        *cores.complaints(threads),
        *_slow_kernels(),
        *places.complaints(),
        *close,
    ]
    try:
        return prepared, cores, replace(places, warnings=_warn(world, complaints))
    except RankLostError:  # the others begin once more
        places.undo()
        raise


def _check_data(world: Communicator, prepared: Prepared, threads: int) -> None:
    """Read this rank's share of all samples, where the user asks for it."""
    if prepared.start.check_data:
        say = terminal.say if world.rank == 0 else (lambda _: None)
        check_share(prepared.data, world.rank, world.size, threads=threads, say=say)


def make_places(start: Start) -> Places:
    """Make or rewind the run's folder, lock it, and write the recipe; return it with the trace's file.

    A trace that cannot be written leaves everything as it was; it may lie in a folder that is made here.
    """
    recipe = start.recipe.to_toml()
    if start.run is None or start.state is None:
        new = new_folder(start.recipe.out, start.name, recipe, within=start.started_in)
        folder, lock, undo = new.path, new.lock, new.withdraw
    else:
        folder, lock = start.run, lock_folder(start.run, "resume")
        undo = lock.release
    try:
        named = start.recipe.trace
        traced = check_writable(str(start.place(expand(named, "trace")))) if named else None
        if start.run is not None and start.state is not None:
            _check_still_newest(start)
            rewind(folder, start.state.step)
        if not (folder / RECIPE).exists():
            undo = partial(_remove_recipe, folder, undo)
        with writing(folder, "out"):
            write_whole(folder / RECIPE, recipe)
    except UserError:
        undo()
        raise
    return Places(folder, traced, lock, undo)


def _remove_recipe(folder: Path, undo: Callable[[], None]) -> None:
    """Take back the recipe of a run that does not begin, which would refuse another one, then the rest."""
    with suppress(OSError):
        (folder / RECIPE).unlink()
    undo()


def end_if_asked(world: Communicator, undo: Callable[[], None] = lambda: None) -> None:
    """End all ranks before the first step if one of them has been asked to end (collective)."""
    if any(world.gather_objects(is_asked_to_end())):
        undo()
        end_now()


def _check_still_newest(start: Start) -> None:
    """Refuse to cut back a run that went on until its lock was free, after its checkpoint was looked for."""
    if start.asked is not None and start.checkpoint is not None:
        now = followed(find_checkpoint(start.asked))
        if now != (start.found or start.checkpoint):
            raise UserError(f"resume: {start.run} has gone on meanwhile, to {now.name}: start again")


def _slow_kernels() -> list[str]:
    if TARGET.fuses:
        return []
    return [f"kernels use {TARGET.simd}, without fused multiply-adds: the same bits, but many times slower"]


def _warn(world: Communicator, complaints: list[str]) -> list[str]:
    """Say on rank 0 what any rank finds wrong, each thing once, and return it on all (collective)."""
    everyone = world.gather_objects(complaints)
    found = list(dict.fromkeys(complaint for each in everyone for complaint in each))
    if world.rank == 0:
        for complaint in found:
            terminal.say(f"warning: {complaint}")
    return found


def _changes(prepared: Prepared) -> tuple[str, ...]:
    """Return what Pillow changes in training images."""
    recolours = Augment.parse(prepared.start.recipe.augment).recolours
    return (COLOURS,) if recolours else ()
