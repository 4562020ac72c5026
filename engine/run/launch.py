"""From a start to a finished run: check everything on all ranks, agree, then train."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from comm import failure, terminal
from comm.clock import Alignment, read_clock
from comm.collectives import Collectives
from comm.communicator import Communicator
from engine.config.errors import UserError
from engine.config.files import write_whole, writing
from engine.config.paths import expand
from engine.config.user_code import no_exit
from engine.data.check import check_share
from engine.host.affinity import Cores, find_cores
from engine.host.stop_signals import end_now, hold_wishes, is_asked_to_end
from engine.profile.trace_file import check_writable, write_trace
from engine.run.agreement import agreed, check_equal
from engine.run.building import MakeCollectives, build_trainer, threads_of
from engine.run.callbacks import Callback
from engine.run.decoders import check_decoders
from engine.run.environment import Surroundings, environment
from engine.run.failures import RunEndedError
from engine.run.finding import find_checkpoint
from engine.run.folder_lock import FolderLock, lock_folder
from engine.run.memory_check import check_needs, microbatches_that_fit, needs_of, no_memory
from engine.run.prepare import Prepared, facts_to_compare, prepare
from engine.run.results import say_goodbye
from engine.run.run_folder import RECIPE, new_folder, rewind
from engine.run.session import run_session
from engine.run.start import Start, followed
from layers.kernels.target import TARGET
from layers.layer import Array


@dataclass(frozen=True)
class Finished:
    """A run that is over, on one of its ranks."""

    results: dict[str, Any]
    """The content of `run.json`."""
    folder: Path
    """On the host of rank 0, which alone writes there."""
    weights: dict[str, Array]
    """In standard layout by name; empty unless they were asked for."""


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


def run(
    world: Communicator, resolve: Callable[[], Start], *, collectives: MakeCollectives | None = None
) -> dict[str, Any]:
    """Train what `resolve` returns, as a command that ends with the run, and return the results (collective).

    What one rank alone finds where it cannot save with the others ends the process on all ranks, exit code 2.

    Raises
    ------
    UserError
        On all ranks, with the same message: before the first step, any rank's mistake in what was given; then
        what ended the run, when what was done has been saved.
    """
    prepared, cores, places = begin(world, resolve)
    try:
        with ending_together(world):
            finished = _train(world, prepared, cores, places, make_collectives=collectives or Collectives)
    finally:
        places.release()
    if places.folder is not None:
        say_goodbye(prepared.start.shown(places.folder), finished.results, places.trace)
    return finished.results


@contextmanager
def ending_together(world: Communicator) -> Iterator[None]:
    """End the process on all ranks, exit code 2, by what this one alone finds in the middle of a run."""
    try:
        with no_exit("run"):
            yield
    except RunEndedError:
        raise
    except UserError as error:
        failure.fail(world, str(error))
    except MemoryError as error:
        failure.fail(world, no_memory(error))


def run_in_process(
    world: Communicator, resolve: Callable[[], Start], *, callbacks: Sequence[Callback] = ()
) -> Finished:
    """Train what `resolve` returns, in a program that goes on afterwards, and keep the weights (collective).

    Raises
    ------
    UserError
        As in `run`; with one rank also what fails in the middle of the run. Several ranks end together then,
        as the others wait for this one.
    """
    prepared, cores, places = begin(world, resolve)
    try:
        with no_exit("run"):
            return _train(world, prepared, cores, places, callbacks=callbacks, keep_weights=True)
    except RunEndedError:
        raise
    except (UserError, MemoryError) as error:
        message = str(error) if isinstance(error, UserError) else no_memory(error)
        if world.size > 1:
            failure.fail(world, message)
        raise UserError(message) from error
    except Exception as error:  # a bug, or code of the user's
        if world.size > 1:  # the others wait for this rank: a program that catches the error must not go on
            failure.abort_all(world, error)
        raise
    finally:
        places.release()


def begin(world: Communicator, resolve: Callable[[], Start]) -> tuple[Prepared, Cores, Places]:
    """Read, check and compare what all ranks were given, and make the run's folder on rank 0 (collective).

    Raises
    ------
    UserError
        On all ranks, with the same message: any rank's mistake in what was given.
    """
    prepared = agreed(world, lambda: prepare(resolve(), world.size))
    cores = find_cores(world)
    agreed(world, lambda: check_equal(world, facts_to_compare(prepared)))
    agreed(world, lambda: check_decoders(world, *prepared.data.splits()))
    threads = threads_of(world, prepared.start.recipe, cores)
    agreed(world, lambda: _check_data(world, prepared, threads))  # long: a wish to end is granted at once
    hold_wishes()
    end_if_asked(world)
    needs = agreed(world, lambda: needs_of(prepared, world.rank, threads))
    close = agreed(
        world, lambda: check_needs(world, needs, partial(microbatches_that_fit, prepared, threads))
    )
    writes = world.rank == 0 and prepared.start.has_folder
    places = agreed(world, lambda: _paths(prepared.start) if writes else Places())
    warnings = _warn(
        world,
        [
            *prepared.start.warnings,
            *cores.complaints(threads),
            *_slow_kernels(),
            *places.complaints(),
            *close,
        ],
    )
    return prepared, cores, replace(places, warnings=warnings)


def _check_data(world: Communicator, prepared: Prepared, threads: int) -> None:
    """Read this rank's share of all samples, where the user asks for it."""
    if prepared.start.check_data:
        say = terminal.say if world.rank == 0 else (lambda _: None)
        check_share(prepared.data, world.rank, world.size, threads=threads, say=say)


def _paths(start: Start) -> Places:
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


def _train(
    world: Communicator,
    prepared: Prepared,
    cores: Cores,
    places: Places,
    *,
    make_collectives: MakeCollectives = Collectives,
    callbacks: Sequence[Callback] = (),
    keep_weights: bool = False,
) -> Finished:
    recipe = prepared.start.recipe
    trainer = build_trainer(
        world, prepared, cores, places.folder, check_folder=places.check, make_collectives=make_collectives
    )
    rank, recorder, queue = trainer.rank, trainer.recorder, trainer.rank.queue
    started = read_clock(world) if recipe.trace else None
    end_if_asked(world, places.undo)
    try:
        around = Surroundings(environment(world, cores), places.warnings)
        results = run_session(trainer, callbacks, around=around)
        with rank.averaged():
            weights = rank.parameters.gather_weights() if keep_weights else {}
    except BaseException:
        if world.size == 1:  # nobody is waited for: the thread must not outlive the run
            queue.close()
        raise
    queue.close()
    if started is not None:
        table = results["where_the_time_went"]
        cost = table["communication_alone_seconds"] if table else None
        alignment = Alignment(started, read_clock(world))
        write_trace(places.trace, world, recorder, alignment, communication_alone=cost)
    folder = world.gather_objects(places.folder)[0]
    return Finished(results, folder, weights)


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
